"""Nothing of a user is left in any byte of the folder; all that others did is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from recray.event_log import partitions
from recray.event_log.forgotten import Forgotten
from recray.event_log.live import LiveFile
from recray.event_log.reading import read
from recray.event_log.records import Event
from recray.event_log.tables import encoded
from recray.event_log.writer import LogWriter
from recray.schema import DataError
from tests.event_log.logged import AT, answer, event, exposure

ANN = "ann-who-wants-to-be-forgotten"
HERS = "what-only-she-looked-at"  # named by a request without her name, which an event of hers claims


def written(folder: Path) -> LogWriter:
    """Of Ann and Bob, in partitions and in the live file."""
    log = LogWriter(folder)
    for half in range(2):
        numbers = range(half * 10, half * 10 + 10)
        log.expose([answer(n, ANN if n % 2 else "bob") for n in numbers])
        log.record([event(n, ANN if n % 2 else "bob", f"r{n}") for n in numbers])
        log.record([event(100 + n, None, f"r{n}") for n in numbers])
        log.record([event(200 + n, ANN)._replace(event_id=f"{ANN}-{n}") for n in numbers])
        log.expose([encoded(replace(exposure(300 + half, None), named=f'{{"history": ["{HERS}"]}}'))])
        log.record([event(300 + half, ANN, f"r{300 + half}")])
        if not half:
            log.compact()
    return log


def found_in(folder: Path, text: str) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_not_a_byte_is_left(tmp_path: Path) -> None:
    log = written(tmp_path)
    assert len(found_in(tmp_path, ANN)) >= 3
    assert found_in(tmp_path, HERS)
    log.forget(ANN)
    assert not found_in(tmp_path, ANN)
    assert not found_in(tmp_path, HERS)
    left = read(tmp_path)
    assert left.shown["user_id"].unique().to_list() == ["bob"]
    assert left.shown["request_id"].n_unique() == 10
    kept = [event for n in range(0, 20, 2) for event in (f"e{n}", f"e{100 + n}")]
    assert sorted(left.events["event_id"]) == sorted(kept)
    assert log.record([event(0)]) == (0, 1)
    assert log.record([event(1, "bob")]) == (1, 0)  # nothing is known of what Ann did
    log.compact()
    log.close()
    assert not found_in(tmp_path, ANN)
    assert read(tmp_path).events.height == 21


@pytest.mark.parametrize("next_step", ["forget", "compact"])
def test_what_a_killed_compaction_had_begun_is_removed(tmp_path: Path, next_step: str) -> None:
    log = written(tmp_path)
    part = next(tmp_path.glob("events/day=*/hour=*/*.parquet"))
    begun = part.with_name(".local-900-990.parquet.new")
    begun.write_bytes(part.read_bytes())
    log.forget("bob") if next_step == "forget" else log.compact()
    assert not begun.exists()
    log.close()


def test_the_file_of_what_was_cut_off_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, synced = written(tmp_path), list[tuple[str, int]]()
    monkeypatch.setattr(
        "recray.event_log.live.fsync", lambda path: synced.append((path.name, path.stat().st_size))
    )
    log.forget(ANN)
    log.close()
    assert synced == [("local.sqlite-wal", 0)]  # else the power may bring it back


@pytest.mark.parametrize("compacted", [True, False])
@pytest.mark.parametrize("of_another_node", [True, False])
def test_what_was_asked_without_a_name_goes_where_an_event_tells_whose_it_was(
    tmp_path: Path, compacted: bool, of_another_node: bool
) -> None:
    log, other = LogWriter(tmp_path, "a"), LogWriter(tmp_path, "b")
    named = [json.dumps({"history": [f"only-{who}-has-this"]}) for who in ("ann", "bob", "who")]
    for number, (user, brought) in enumerate(zip((None, "bob", None), named, strict=True)):
        exposed = replace(exposure(number, user), named=brought, context={"shelf": brought})
        (other if of_another_node else log).expose([encoded(exposed)])
    log.record([event(10, ANN, "r0"), event(11, ANN, "r1"), event(12, "bob", "r1")])  # r1: it was not hers
    other.record([event(13, None, "r0"), event(14, None, "r2")])
    if compacted:
        for each in (log, other):
            each.compact()
    log.forget(ANN)
    for each in (other, log, other):  # minutes
        each.go_on()
    left = read(tmp_path)
    assert sorted(left.shown["request_id"].unique()) == ["r1", "r2"]
    assert sorted(left.events["event_id"]) == ["e12", "e14"]
    assert sorted(left.shown["named"].unique()) == sorted(named[1:])
    for each in (log, other):
        each.close()
    assert not found_in(tmp_path, ANN)
    assert not found_in(tmp_path, "only-ann-has-this")
    known = json.loads((tmp_path / "forgotten.json").read_text())
    assert [(one["nodes"], one["told"]) for one in known["users"].values()] == [([], [])]


@pytest.mark.parametrize("step", range(9))
def test_it_goes_on_where_it_was_interrupted(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, steps = written(tmp_path), iter(range(100))

    def stop() -> None:
        if next(steps) == step:
            raise DataError("the power is gone")

    def put(path: Path, frame: pl.DataFrame) -> None:
        stop()
        partitions.replace(path, frame)

    def do(work: Callable[[LiveFile], object], size: int = 0, *, alone: bool = False) -> object:
        stop()
        return LogWriter.do(log, work, size, alone=alone)

    with monkeypatch.context() as patch:
        patch.setattr("recray.event_log.forgetting.replace", put)
        patch.setattr(log, "do", do)
        with pytest.raises(DataError, match="the power is gone"):
            log.forget(ANN)
    log.close()
    again = LogWriter(tmp_path)
    again.go_on()
    again.close()
    assert not found_in(tmp_path, ANN)
    assert not found_in(tmp_path, HERS)
    assert read(tmp_path).events.height == 20


def test_other_data_is_without_those_who_asked_before_it_ended(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.expose([encoded(replace(exposure(1), user_id="7"))])
    log.forget("7")
    log.close()
    base = pl.DataFrame({"user": [7, 8, 7, 9], "time": [AT, AT, 4e9, AT], "item": [1, 2, 3, 4]})
    left = Forgotten(tmp_path).without(base, "user", "time")
    assert left["item"].to_list() == [2, 3, 4]  # the third is of later than the request
    assert Forgotten(tmp_path / "none").without(base, "user", "time").equals(base)


@pytest.mark.parametrize("other_runs", [True, False])
def test_what_another_node_has_not_compacted_goes_too(tmp_path: Path, other_runs: bool) -> None:
    log, other = LogWriter(tmp_path, "a"), LogWriter(tmp_path, "b")
    log.record([event(1, ANN)])
    other.record([event(2, ANN), event(3, "bob")])
    other.expose([answer(4, ANN)])
    if not other_runs:
        other.close()
    log.forget(ANN)
    if other_runs:
        assert found_in(tmp_path, ANN)
        other.go_on()
    assert not found_in(tmp_path, ANN)
    other.record([event(5, ANN)]) if other_runs else log.record([event(5, ANN)])
    other.go_on() if other_runs else log.go_on()
    assert read(tmp_path).events["user_id"].to_list().count(ANN) == 1  # she came back
    log.close()
    if other_runs:
        other.close()


def claim(number: int, answer_number: int) -> Event:
    """Of nobody in particular."""
    return event(number, None, f"r{answer_number}")


@pytest.mark.parametrize("others_run", [True, False])
@pytest.mark.parametrize("compacted", [True, False])
def test_what_nobody_did_with_the_answers_goes_at_all_nodes(
    tmp_path: Path, others_run: bool, compacted: bool
) -> None:
    logs = {node: LogWriter(tmp_path, node) for node in "abc"}
    logs["a"].expose([answer(1, ANN), answer(2, "bob")])
    logs["c"].expose([answer(3, ANN)])  # its claims are at a node that is asked before
    for number, log in enumerate(logs.values()):
        log.record([claim(10 * number + of, of) for of in (1, 2, 3, 4)])
        log.record([event(100 + number, ANN)._replace(event_id=f"{ANN}-{number}")])
    if compacted:
        for log in logs.values():
            log.compact()
    if not others_run:
        logs["b"].close()
        logs["c"].close()
    logs["a"].forget(ANN)
    for _ in range(2):  # minutes
        for node in "abc" if others_run else "a":
            logs[node].go_on()
    left = read(tmp_path)
    assert set(left.shown["request_id"]) == {"r2"}
    assert left.events["request_id"].unique().sort().to_list() == ["r2", "r4"]
    assert left.events.height == 6
    for log in logs.values() if others_run else (logs["a"],):
        log.compact()
        log.close()
    assert not found_in(tmp_path, ANN)
    known = json.loads((tmp_path / "forgotten.json").read_text())
    assert [(one["nodes"], one["told"]) for one in known["users"].values()] == [([], [])]
