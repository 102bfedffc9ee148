"""Each row comes once, in order, to whoever the log is handed on to, whatever fails meanwhile."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redis

from recray.config import ConfigError
from recray.event_log import sinks
from recray.event_log.delta_sink import DeltaSink
from recray.event_log.reading import read
from recray.event_log.redis_sink import RedisSink
from recray.event_log.sinks import Sink, open_sink, send
from recray.event_log.tables import Table
from recray.event_log.writer import LogWriter
from tests.event_log.logged import answer, event


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server: install the Debian package of that name")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    while True:
        try:
            redis.Redis.from_url(url).ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)
    yield url
    process.kill()
    process.wait()


def rows_in_redis(url: str, table: str) -> list[dict[str, Any]]:
    entries: Any = redis.Redis.from_url(url).xrange(f"recray:shop:{table}")
    return [json.loads(fields[b"row"]) for _, fields in entries]


class Failing:
    """Takes a few times, then does not."""

    every_s = 0.01

    def __init__(self, sink: Sink, times: int) -> None:
        self._sink, self._times = sink, times

    def last_row(self, table: Table, node: str) -> int:
        return self._sink.last_row(table, node)

    def take(self, table: Table, node: str, rows: pl.DataFrame) -> None:
        if not self._times:
            raise OSError("out of reach")
        self._times -= 1
        self._sink.take(table, node, rows)


def write_and_send(folder: Path, sink: Sink) -> LogWriter:
    """Some of it live, some compacted; interrupted in between."""
    log = LogWriter(folder)
    for turn in range(3):
        numbers = range(turn * 10, turn * 10 + 10)
        log.record([event(number) for number in numbers])
        log.expose([answer(number, features=turn > 0) for number in numbers])
        if turn < 2:
            log.compact()
        with pytest.raises(OSError, match="out of reach"):
            send(folder, "local", Failing(sink, turn + 1))
        send(folder, "local", sink)
        assert send(folder, "local", sink) == 0
    return log


def test_redis_has_each_row_once(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "MOST_AT_ONCE", 4)  # of an answer's three rows none is left for later
    write_and_send(tmp_path / "log", open_sink(redis_url, "shop")).close()
    events, shown = (rows_in_redis(redis_url, table) for table in ("events", "shown"))
    assert [row["event_id"] for row in events] == [f"e{number}" for number in range(30)]
    assert [(row["seq"], row["rank"]) for row in shown] == [(n, r) for n in range(1, 31) for r in (1, 2, 3)]
    assert shown[-1]["feature:age"] == 4.0
    assert RedisSink(redis_url, "shop").last_row("shown", "local") == 30
    assert RedisSink(redis_url, "shop").last_row("shown", "other") == 0


def test_delta_has_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "MOST_AT_ONCE", 4)
    sink = open_sink(f"delta:{tmp_path / 'delta'}", "shop")
    assert isinstance(sink, DeltaSink)
    write_and_send(tmp_path / "log", sink).close()
    wanted = read(tmp_path / "log")
    for table, rows in (("events", wanted.events), ("shown", wanted.shown)):
        found = pl.read_delta(str(tmp_path / "delta" / table))
        assert found["day"].unique().to_list() == ["2023-11-14"]
        order = ["seq", "rank"] if table == "shown" else ["seq"]
        assert found.select(rows.columns).sort(order).equals(rows.sort(order))


def test_one_that_is_out_of_reach_is_said_and_holds_up_nobody(tmp_path: Path) -> None:
    delta = DeltaSink(str(tmp_path / "delta"))
    log = LogWriter(tmp_path / "log", sinks=[delta, Failing(delta, 0)])
    log.record([event(1)])
    while not log.numbers().problem:
        time.sleep(0.01)
    assert log.numbers().problem == "Failing: OSError: out of reach"
    log.record([event(2)])
    log.close()
    assert delta.last_row("events", "local") == 2


def test_where_events_cannot_go_is_said() -> None:
    with pytest.raises(ConfigError, match="cannot be sent to 'kafka://host'"):
        open_sink("kafka://host", "shop")
