"""``recray events``: what an application showed and was told, and who is taken out of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recray.cli import main
from recray.event_log.writer import LogWriter
from recray.paths import events_dir
from tests.event_log.logged import answer, event


def rows(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    assert main(["events", "shop", *args, "--json"]) == 0
    listed: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return listed


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LogWriter]:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    running = LogWriter(events_dir() / "shop")
    running.expose([answer(0, "ann"), answer(1, "bob")])
    running.record([event(0, "ann", "r0"), event(1, "bob"), event(2, "bob", "nowhere")])
    yield running
    running.close()


def test_events_are_counted_by_kind_and_mark(log: LogWriter, capsys: pytest.CaptureFixture[str]) -> None:
    log.record([event(3, None), event(4, "bob")._replace(kind="impression")])
    columns = ("what", "mark", "in data", "number")
    assert [tuple(row[name] for name in columns) for row in rows(capsys)] == [
        ("answers", "", "", 2),
        ("click", "claimed", "yes", 1),
        ("click", "forged", "forged", 1),
        ("click", "free", "of nobody in particular", 1),
        ("click", "free", "yes", 1),
        ("impression", "free", "impression is no interaction", 1),
    ]
    assert rows(capsys)[0]["newest"] == "2023-11-14T22:13:21+00:00"


def test_the_time_for_outcomes_is_written_as_elsewhere(
    log: LogWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    log.record([event(7_300, "ann", "r0")._replace(item_id="item-1")])
    late = [
        [row["number"] for row in rows(capsys, *args) if row["mark"] == "late"]
        for args in ((), ("--attribution", "3h"))
    ]
    assert late == [[1], []]
    assert main(["events", "shop", "--attribution", "soon"]) == 2
    assert "soon" in capsys.readouterr().err


def test_a_user_is_forgotten_where_it_is_meant(log: LogWriter, capsys: pytest.CaptureFixture[str]) -> None:
    log.close()
    assert main(["events", "shop", "--forget", "ann"]) == 2
    assert "add --yes" in capsys.readouterr().err
    left = rows(capsys, "--forget", "ann", "--yes", "--compact")
    assert [(row["what"], row["mark"], row["number"]) for row in left] == [
        ("answers", "", 1),
        ("click", "forged", 1),
        ("click", "free", 1),
    ]
    assert list((events_dir() / "shop" / "shown").rglob("*.parquet"))
    assert not any(
        b"ann" in path.read_bytes() for path in (events_dir() / "shop").rglob("*") if path.is_file()
    )


def test_what_is_served_now_is_left_to_the_server(log: LogWriter, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "shop", "--forget", "ann", "--yes"]) == 2
    assert "--server URL" in capsys.readouterr().err
    assert main(["events", "shop", "--forget", "ann", "--yes", "--server", "http://127.0.0.1:1"]) == 2
    assert "does not answer" in capsys.readouterr().err
    assert len(rows(capsys)) == 4


def test_an_application_without_a_log_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    assert main(["events", "shop"]) == 2
    assert "there is no log in" in capsys.readouterr().err
