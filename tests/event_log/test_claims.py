"""Marks follow from the log, in whatever order it was written."""

import itertools
from pathlib import Path

import pytest

from recray.event_log.claims import MARKS, marked
from recray.event_log.reading import read
from recray.event_log.records import Event
from recray.event_log.writer import EventLog
from tests.event_log.logged import AT, answer

CASES = {
    "free": Event("free", "click", "ann", "item-1", 1, AT + 5, AT + 5, None),
    "claimed": Event("claimed", "click", "ann", "item-1", 1, AT + 6, AT + 6, "r0"),
    "of nobody": Event("of nobody", "cart", None, "item-1", 1, AT + 6, AT + 6, "r0"),
    "again": Event("again", "click", "ann", "item-1", 1, AT + 7, AT + 7, "r0"),
    "another kind": Event("another kind", "purchase", "ann", "item-1", 1, AT + 8, AT + 8, "r0"),
    "unknown": Event("unknown", "click", "ann", "item-1", 1, AT + 6, AT + 6, "r9"),
    "not shown": Event("not shown", "click", "ann", "item-9", 1, AT + 6, AT + 6, "r0"),
    "bob": Event("bob", "click", "bob", "item-2", 1, AT + 6, AT + 6, "r0"),
    "in time": Event("in time", "click", "ann", "item-2", 1, AT + 60, AT + 600, "r0"),
    "late": Event("late", "purchase", "ann", "item-2", 1, AT + 61, AT + 61, "r0"),
    "a clock behind": Event("a clock behind", "click", "ann", "item-0", 1, AT - 60, AT + 1, "r0"),
    "before": Event("before", "cart", "ann", "item-0", 1, AT - 61, AT + 1, "r0"),
}
WANTED = {
    "free": "free",
    "again": "replayed",
    "unknown": "forged",
    "not shown": "forged",
    "bob": "forged",
    "late": "late",
    "before": "late",
}


@pytest.mark.parametrize("answer_comes", ["first", "last"])
def test_every_mark_in_any_order(tmp_path: Path, answer_comes: str) -> None:
    for number, order in enumerate(itertools.islice(itertools.permutations(CASES), 0, 10_000_000, 3_000_000)):
        folder = tmp_path / str(number)
        log = EventLog(folder)
        if answer_comes == "first":
            log.expose([answer(0)])
        for name in order:
            log.record([CASES[name]])
        if answer_comes == "last":
            log.compact()
            log.expose([answer(0)])
        log.close()
        found = marked(read(folder), attribution_s=60)
        marks = dict(found.select("event_id", "mark").iter_rows())
        assert marks == {name: WANTED.get(name, "claimed") for name in CASES}
        assert set(marks.values()) == set(MARKS)
        assert found.height == len(CASES)
        assert found.filter(event_id="in time")["rank"].item() == 3
