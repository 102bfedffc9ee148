"""What a node left behind that never came back is compacted, deleted by age and handed on by another one."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from recray.event_log import partitions
from recray.event_log.compaction import compact
from recray.event_log.delta_sink import DeltaSink
from recray.event_log.idle import Idle
from recray.event_log.live import HeldError, LiveRows, live_file
from recray.event_log.partitions import Partition
from recray.event_log.reading import Log, read
from recray.event_log.tables import Table
from recray.event_log.writer import LogWriter
from recray.schema import DataError
from tests.event_log.logged import answer, event


def left_behind(folder: Path, first: int = 0) -> None:
    """By a node ``gone``, some of it compacted."""
    log = LogWriter(folder, "gone")
    for half in range(2):
        numbers = range(first + 5 * half, first + 5 * half + 5)
        log.expose([answer(number) for number in numbers])
        log.record([event(number, request_id=f"r{number}") for number in numbers])
        if not half:
            log.compact()
    log.close()


def in_partitions(folder: Path, table: Table) -> list[Partition]:
    return [file for file in partitions.partitions(folder, table) if file.node == "gone"]


def live_rows(folder: Path) -> int:
    rows = LiveRows(live_file(folder, "gone"))
    count = len(rows.rows("events")) + len(rows.rows("shown"))
    rows.close()
    return count


def same(one: Log, other: Log) -> bool:
    return all(a.sort("node", "seq").equals(b.sort("node", "seq")) for a, b in zip(one, other, strict=True))


def test_another_node_compacts_it_and_hands_it_on(tmp_path: Path) -> None:
    folder, delta = tmp_path / "log", DeltaSink(str(tmp_path / "delta"))
    left_behind(folder)
    before = read(folder)
    log = LogWriter(folder, "here", sinks=[delta])
    log.tend()
    assert live_rows(folder) == 0
    assert same(read(folder), before)
    assert (delta.last_row("events", "gone"), delta.last_row("shown", "gone")) == (10, 10)
    left_behind(folder, first=10)  # it came back, and went again
    log.tend()
    log.close()
    assert live_rows(folder) == 0
    assert sorted(read(folder).events["event_id"]) == sorted(f"e{n}" for n in range(20))
    for table in partitions.TABLES:
        sent = pl.read_delta(str(tmp_path / "delta" / table))
        assert sent.select("seq").unique().height == 20
        assert sent.height == (20 if table == "events" else 60)


def test_it_is_deleted_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path)
    log, now = LogWriter(tmp_path, "here", keep_days=1), time.time()
    log.tend()
    assert in_partitions(tmp_path, "events")
    monkeypatch.setattr("time.time", lambda: now + 3 * 86_400)
    log.tend()
    log.close()
    assert not in_partitions(tmp_path, "events")
    assert read(tmp_path).shown.is_empty()


def test_a_node_that_is_written_is_left_alone(tmp_path: Path) -> None:
    there, here = LogWriter(tmp_path, "gone"), LogWriter(tmp_path, "here")
    there.record([event(1)])
    here.tend()
    assert live_rows(tmp_path) == 1
    there.close()
    here.tend()
    here.close()
    assert live_rows(tmp_path) == 0


@pytest.mark.parametrize("step", range(7))
def test_it_goes_on_where_it_was_interrupted(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(tmp_path)
    before, steps = read(tmp_path), iter(range(100))

    def stopping(work: Callable[..., object]) -> Callable[..., object]:
        def then(*args: object, **options: object) -> object:
            if next(steps) == step:
                raise DataError("the power is gone")
            return work(*args, **options)

        return then

    with monkeypatch.context() as patch, Idle(tmp_path, "gone") as idle:
        patch.setattr("recray.event_log.compaction.write_partition", stopping(partitions.write_partition))
        patch.setattr(idle, "do", stopping(idle.do))
        with pytest.raises(DataError, match="the power is gone"):
            compact(idle, 0)
    assert same(read(tmp_path), before)
    log = LogWriter(tmp_path, "here")
    log.tend()
    log.close()
    assert same(read(tmp_path), before)
    assert live_rows(tmp_path) == 0


def test_a_node_that_comes_back_at_that_moment_loses_nothing(tmp_path: Path) -> None:
    here, is_over = LogWriter(tmp_path, "here"), threading.Event()

    def tend() -> None:
        while not is_over.is_set():
            here.tend()

    tender, times = threading.Thread(target=tend), 0
    tender.start()
    while times < 30:
        with suppress(HeldError):
            back = LogWriter(tmp_path, "gone")
            back.record([event(times)])
            if times % 3 == 0:
                back.compact()
            back.close()
            times += 1
    is_over.set()
    tender.join()
    here.close()
    rows = read(tmp_path).events.sort("seq")
    assert rows["event_id"].to_list() == [f"e{number}" for number in range(30)]
    assert rows["seq"].to_list() == list(range(1, 31))


ADOPTING = """
import sys
from pathlib import Path
from recray.event_log.writer import LogWriter
log = LogWriter(Path(sys.argv[1]), "here", compact_every_s=3600)
print("ready", flush=True)
while True:
    log.tend()
"""


@pytest.mark.slow
def test_who_adopts_is_killed(tmp_path: Path) -> None:
    rng, number = random.Random(0), 0
    for _ in range(6):
        adopting = subprocess.Popen(
            [sys.executable, "-c", ADOPTING, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert adopting.stdout is not None
        assert adopting.stdout.readline() == "ready\n"
        ends = time.monotonic() + rng.random()
        while time.monotonic() < ends:
            with suppress(HeldError):
                back = LogWriter(tmp_path, "gone")
                back.record([event(n) for n in range(number, number + 50)])
                back.expose([answer(n) for n in range(number, number + 50)])
                number += 50
                back.close()
        adopting.kill()
        adopting.wait()
        adopting.stdout.close()
        found = read(tmp_path)
        assert found.events["event_id"].to_list() == [f"e{n}" for n in range(number)]
        assert found.shown.sort("seq", "rank")["seq"].to_list() == [
            n for n in range(1, number + 1) for _ in range(3)
        ]
    assert number > 50


def test_one_that_is_damaged_keeps_no_other_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "log"
    left_behind(folder)
    live_file(folder, "broken").write_bytes(b"not a database" * 100)
    log = LogWriter(folder, "here")
    log.tend()
    log.close()
    assert live_rows(folder) == 0
    assert "the rows of broken, which nobody writes, wait" in caplog.text
