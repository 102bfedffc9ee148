"""Events a second and how long one waits: the event log, a plain loop over SQLite, a segment file."""

import itertools
import os
import queue
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydantic_core

from benchmarks.events_worker import event_of
from recray.event_log.records import Event
from recray.event_log.writer import LogWriter


class Speed(NamedTuple):
    events_per_s: float
    p50_ms: float
    p95_ms: float


def measured(seconds: float, turns: int) -> dict[str, dict[str, float]]:
    """Medians of rounds in turns, each on a log of its own."""
    ways: dict[str, Callable[[], Speed]] = {
        "sqlite loop": partial(_sqlite_loop, seconds),
        "log, 1 client": partial(_log, 1, seconds),
        "log, 32 clients": partial(_log, 32, seconds),
        "segment file, 1 client": partial(_segment, 1, seconds),
        "segment file, 32 clients": partial(_segment, 32, seconds),
    }
    found: dict[str, list[Speed]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            found[name].append(way())
    return {
        name: {
            field: statistics.median(values)
            for field, values in zip(Speed._fields, zip(*each, strict=True), strict=True)
        }
        for name, each in found.items()
    }


def _log(clients: int, seconds: float) -> Speed:
    with tempfile.TemporaryDirectory() as place:
        log = LogWriter(Path(place))
        numbers = itertools.count()  # next() of it is one step of the interpreter
        try:
            return _timed(clients, seconds, lambda: log.record([event_of(next(numbers))]))
        finally:
            log.close()


def _sqlite_loop(seconds: float) -> Speed:
    with tempfile.TemporaryDirectory() as place:
        connection = sqlite3.connect(
            Path(place) / "events.sqlite", isolation_level=None, check_same_thread=False
        )
        for setting in ("journal_mode=wal", "synchronous=full", "secure_delete=on"):
            connection.execute(f"pragma {setting}")
        connection.execute(
            "create table events "
            "(user_id, item_id, value, at, event_id primary key, kind, request_id, received)"
        )
        numbers = itertools.count()

        def insert() -> None:
            connection.execute("insert into events values (?, ?, ?, ?, ?, ?, ?, ?)", event_of(next(numbers)))

        try:
            return _timed(1, seconds, insert)
        finally:
            connection.close()


class _Segment:
    """What was considered: lines of JSON in a file, synced once for all who wait; it knows no id again."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._waiting: queue.SimpleQueue[tuple[bytes, threading.Event]] = queue.SimpleQueue()
        threading.Thread(target=self._write_on, daemon=True).start()

    def record(self, event: Event) -> None:
        done = threading.Event()
        self._waiting.put((pydantic_core.to_json(event) + b"\n", done))
        done.wait()

    def _write_on(self) -> None:
        while True:
            tasks = [self._waiting.get()]
            while not self._waiting.empty():
                tasks.append(self._waiting.get())
            os.write(self._descriptor, b"".join(line for line, _ in tasks))
            os.fdatasync(self._descriptor)
            for _, done in tasks:
                done.set()


def _segment(clients: int, seconds: float) -> Speed:
    with tempfile.TemporaryDirectory() as place:
        segment, numbers = _Segment(Path(place) / "events.jsonl"), itertools.count()
        return _timed(clients, seconds, lambda: segment.record(event_of(next(numbers))))


def _timed(clients: int, seconds: float, record: Callable[[], object]) -> Speed:
    """Each client hands over one event after another."""
    took_s: list[list[float]] = [[] for _ in range(clients)]
    until = time.perf_counter() + seconds

    def ask_on(mine: list[float]) -> None:
        while (began := time.perf_counter()) < until:
            record()
            mine.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask_on, args=(mine,)) for mine in took_s]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    all_s = np.concatenate(took_s)
    p50_s, p95_s = np.quantile(all_s, (0.5, 0.95))
    return Speed(len(all_s) / (time.perf_counter() - began), p50_s * 1e3, p95_s * 1e3)
