"""What is handed over is there, once, however it is read; what cannot be kept is said."""

import threading
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from recray.event_log.live import LiveFile
from recray.event_log.reading import newest_events, read, read_facts
from recray.event_log.records import Fact, Sent
from recray.event_log.tables import encoded
from recray.event_log.writer import LogBusyError, LogFailedError, LogWriter
from recray.schema import DataError
from tests.event_log.logged import AT, answer, event, exposure


def ids(folder: Path) -> list[str]:
    return sorted(read(folder).events["event_id"])


def test_what_was_written_is_read_from_the_live_file_and_from_partitions(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    assert log.record([event(1), event(2)]) == (2, 0)
    log.expose([answer(1), answer(2, None, features=False)])
    live = read(tmp_path)
    assert log.compact() == 4
    log.record([event(3)])
    both = read(tmp_path)
    log.close()
    assert live.events["event_id"].to_list() == ["e1", "e2"]
    assert both.events["event_id"].to_list() == ["e1", "e2", "e3"]
    assert live.shown.equals(both.shown)
    first = live.shown.row(0, named=True)
    assert first["item_id"] == "item-0"
    assert first["rank"] == 1
    assert first["user_id"] == "ann"
    assert first["rules"] == ["explore"]
    assert first["context"] == '{"device":"phone"}'
    assert live.shown["feature:price"].to_list() == [1.0, 1.0, 3.0, None, None, None]
    assert live.shown["feature:age"].to_list() == [None, 2.0, 4.0, None, None, None]


def test_an_event_that_is_told_again_is_known_also_when_it_was_compacted(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    assert log.record([event(1), event(1), event(2)]) == (2, 1)
    log.compact()
    assert log.record([event(2), event(3)]) == (1, 1)
    log.close()
    again = LogWriter(tmp_path)
    assert again.record([event(1)]) == (0, 1)
    assert again.numbers()[:2] == (0, 1)
    again.close()
    assert ids(tmp_path) == ["e1", "e2", "e3"]


def test_answers_that_are_sent_again_are_there_once(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.expose([answer(1), answer(2)], Sent("a", 1))
    log.expose([answer(3)], Sent("b", 1))
    log.compact()
    log.close()
    again = LogWriter(tmp_path)
    again.expose([answer(1), answer(2)], Sent("a", 1))
    again.expose([answer(4)], Sent("a", 2))
    again.expose([answer(1), answer(2)], Sent("a", 1))  # it was long on its way
    assert again.numbers().answers == 1
    again.close()
    assert read(tmp_path).shown["request_id"].unique().sort().to_list() == ["r1", "r2", "r3", "r4"]
    assert read(tmp_path).shown.height == 12


def test_an_answer_without_items_is_a_row_of_rank_0(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.expose([answer(1), encoded(replace(exposure(2), items=()))])
    log.close()
    shown = read(tmp_path).shown
    assert shown["rank"].to_list() == [1, 2, 3, 0]
    assert shown["item_id"].to_list()[-1] is None


def test_a_node_has_one_writer(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, "a")
    with pytest.raises(DataError, match="written by another process"):
        LogWriter(tmp_path, "a")
    other = LogWriter(tmp_path, "b")
    log.record([event(1)])
    other.record([event(2)])
    log.close()
    other.close()
    LogWriter(tmp_path, "a").close()
    assert ids(tmp_path) == ["e1", "e2"]


def test_more_than_may_wait_is_refused_at_once_and_taken_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, goes_on = LogWriter(tmp_path, most_waiting=2), threading.Event()
    slow = LiveFile.add_events

    def add_slowly(self: LiveFile, events: list[object]) -> int:
        goes_on.wait()
        return slow(self, events)  # type: ignore[arg-type]

    monkeypatch.setattr(LiveFile, "add_events", add_slowly)
    threads = [threading.Thread(target=log.record, args=([event(n)],)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    while log.numbers().waiting < 2:
        pass
    with pytest.raises(LogBusyError, match="2 events and answers wait"):
        log.record([event(3)])
    goes_on.set()
    for thread in threads:
        thread.join()
    assert log.record([event(3)]) == (1, 0)
    log.close()
    assert ids(tmp_path) == ["e1", "e2", "e3"]


def test_what_the_disk_does_not_take_is_not_acknowledged_and_later_ones_are(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.record([event(1)])
    pages = log.do(lambda live: live._connection.execute("pragma page_count").fetchone()[0])
    log.do(lambda live: live._connection.execute(f"pragma max_page_count = {pages}").fetchone())
    with pytest.raises(LogFailedError, match="full"):
        log.record([event(n) for n in range(2, 2_000)])
    assert "full" in (log.numbers().problem or "")
    log.do(lambda live: live._connection.execute("pragma max_page_count = 100000").fetchone())
    assert log.record([event(n) for n in range(2, 5)]) == (3, 0)
    assert log.numbers().problem is None
    log.close()
    assert ids(tmp_path) == ["e1", "e2", "e3", "e4"]


def test_one_that_cannot_be_kept_is_no_fault_of_those_in_the_same_commit(tmp_path: Path) -> None:
    log, begin = LogWriter(tmp_path), threading.Barrier(9)
    failed = list[int]()

    def record(number: int) -> None:
        begin.wait()
        try:
            log.record([event(number) if number else event(0)._replace(item_id=None)])  # type: ignore[arg-type]
        except LogFailedError:
            failed.append(number)

    threads = [threading.Thread(target=record, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    begin.wait()
    for thread in threads:
        thread.join()
    log.close()
    assert failed == [0]
    assert ids(tmp_path) == [f"e{number}" for number in range(1, 8)]


def test_rows_come_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    for number in range(12):
        log.record([event(number)])
        log.compact()
    log.close()
    assert read(tmp_path).events["event_id"].to_list() == [f"e{number}" for number in range(12)]


def test_facts_hold_until_others_are_told(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.record([], [Fact("available:1", AT, "false"), Fact("available:2", AT + 1, "false")])
    log.record([event(1)], [Fact("available:1", AT + 2, "true")])
    assert read_facts(tmp_path) == [("available:2", AT + 1, "false"), ("available:1", AT + 2, "true")]
    log.close()


def test_a_part_of_the_time(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.record([event(n) for n in range(10)])
    log.compact()
    log.record([event(n) for n in range(10, 20)])
    log.close()
    found = read(tmp_path, since=AT + 5, until=AT + 12).events["received"]
    assert found.to_list() == [AT + n for n in range(5, 12)]


def test_no_log_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no log in"):
        read(tmp_path)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.record([event(1)])
    log.compact()
    log.close()
    next(tmp_path.glob("events/day=*/hour=*/*.parquet")).write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"local-1-1\.parquet cannot be read"):
        read(tmp_path)
    (tmp_path / "live" / "local.sqlite").write_bytes(b"nothing of the kind" * 500)
    with pytest.raises(DataError, match="cannot be opened"):
        LogWriter(tmp_path)


def test_a_polars_table_has_the_types_that_are_told(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.expose([answer(1)])
    log.close()
    assert read(tmp_path).shown.schema["skipped"] == pl.List(pl.String)


def test_the_newest_events_of_all_nodes_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    assert newest_events(tmp_path, 3) == []
    one, other = LogWriter(tmp_path, "a"), LogWriter(tmp_path, "b")
    for number in range(6):
        (one if number % 2 else other).record([event(number)])
        if number == 2:
            one.compact()
            other.compact()
    one.compact()
    other.compact()
    assert newest_events(tmp_path, 1) == [event(5)]
    one.close()
    other.close()
    assert newest_events(tmp_path, 3) == [event(3), event(4), event(5)]
    assert newest_events(tmp_path, 9) == [event(number) for number in range(6)]


def test_what_is_told_at_two_nodes_counts_once(tmp_path: Path) -> None:
    one, other = LogWriter(tmp_path, "a"), LogWriter(tmp_path, "b")
    other.record([event(1)._replace(received=AT), event(2)])
    other.compact()
    one.record([event(1), event(3)])
    one.close()
    other.close()
    found = read(tmp_path).events
    assert dict(found.select("event_id", "node").iter_rows()) == {"e1": "b", "e2": "b", "e3": "a"}
    assert len(newest_events(tmp_path, 9)) == found.height == 3


def test_what_is_read_while_others_write_has_the_answer_of_every_event(tmp_path: Path) -> None:
    logs, is_over = [LogWriter(tmp_path, node) for node in ("a", "b")], threading.Event()

    def write() -> None:
        number = 0
        while not is_over.is_set():
            logs[0].expose([answer(number)])
            logs[1].record([event(number, request_id=f"r{number}")])
            number += 1
            if number % 20 == 0:
                logs[number % 40 // 20].compact()

    writer = threading.Thread(target=write)
    writer.start()
    while read(tmp_path).events.is_empty():
        pass
    found = [read(tmp_path) for _ in range(20)]
    is_over.set()
    writer.join()
    for log in logs:
        log.close()
    orphans = [log.events.join(log.shown, on="request_id", how="anti").height for log in found]
    assert found[-1].events.height
    assert orphans == [0] * 20
