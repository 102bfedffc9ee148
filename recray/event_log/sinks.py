"""Hands what a node has written on to where others read it, in order, from where that has got to."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import polars as pl

from recray.config import ConfigError
from recray.event_log.partitions import TABLES
from recray.event_log.reading import rows_after
from recray.event_log.tables import Table

log = logging.getLogger(__name__)

MOST_AT_ONCE = 5_000  # rows; of one answer's none is left for later
DELTA = "delta:"


class Sink(Protocol):
    """Knows itself how far it has come: that and the rows are kept in one step, so that each comes once."""

    every_s: float  # how often rows are handed over

    def last_row(self, table: Table, node: str) -> int:
        """Up to which it has what a node wrote; 0: nothing."""

    def take(self, table: Table, node: str, rows: pl.DataFrame) -> None:
        """All of them or none.

        Args:
            rows: of ``tables``, in the order of ``seq``.
        """


def open_sink(where: str, application: str) -> Sink:
    """
    Args:
        where: ``redis://HOST:PORT/DB``, or ``delta:`` and a folder or an address that Delta Lake knows.
    Raises:
        ConfigError: it is neither, or the library is missing.
    """
    try:
        if where.startswith(("redis://", "rediss://")):
            from recray.event_log.redis_sink import RedisSink  # redis is optional

            return RedisSink(where, application)
        if where.startswith(DELTA):
            from recray.event_log.delta_sink import DeltaSink  # deltalake is optional

            return DeltaSink(where.removeprefix(DELTA))
    except ModuleNotFoundError as error:
        raise ConfigError(f"{where} needs {error.name}: pip install {error.name}") from error
    raise ConfigError(f"events cannot be sent to {where!r}: name redis://HOST:PORT/DB or {DELTA}FOLDER")


def send(folder: Path, node: str, sink: Sink) -> int:
    """All that a node wrote and the sink does not have; returns how many rows.

    Raises:
        DataError: a file of the log is damaged. Whatever the sink raises: what was taken stays so.
    """
    sent = 0
    for table in TABLES:
        upto = sink.last_row(table, node)
        while not (rows := rows_after(folder, table, node, upto, MOST_AT_ONCE)).is_empty():
            sink.take(table, node, rows)
            upto, sent = rows["seq"][-1], sent + len(rows)
    return sent


class Sending:
    """Sends in the background until it is closed. One that is out of reach is tried again; it holds up
    neither the log nor another one.

    Args:
        node: whose rows are sent by themselves.
    """

    def __init__(self, folder: Path, node: str, sinks: Sequence[Sink]) -> None:
        self._folder, self._node, self._sinks, self._stop = folder, node, sinks, threading.Event()
        self.problems: dict[str, str] = {}  # by kind of sink, of the last time
        self._threads = [
            threading.Thread(target=self._send_on, args=(sink,), name="send-events", daemon=True)
            for sink in sinks
        ]
        for thread in self._threads:
            thread.start()

    @property
    def problem(self) -> str | None:
        """Of the last time; None: all is well."""
        return next((f"{name}: {problem}" for name, problem in list(self.problems.items())), None)

    def close(self) -> None:
        """What was written before is sent, where that can be."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def send_of(self, node: str) -> None:
        """What another node has, which the caller holds: nobody else sends it meanwhile."""
        for sink in self._sinks:
            self._send(sink, node)

    def _send_on(self, sink: Sink) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.wait(sink.every_s)
            self._send(sink, self._node)

    def _send(self, sink: Sink, node: str) -> None:
        name = type(sink).__name__
        try:
            send(self._folder, node, sink)
            self.problems.pop(name, None)
        except Exception as error:  # of whichever library
            problem = f"{type(error).__name__}: {error}"
            if self.problems.get(name) != problem:
                log.error("%s does not take what %s holds: %s", name, self._folder, problem)
            self.problems[name] = problem
