"""Marks follow from the log, in whatever order it was written."""

import itertools
from pathlib import Path

import pytest

from recray.event_log.claims import MARKS, marked
from recray.event_log.reading import read
from recray.event_log.records import Event
from recray.event_log.writer import LogWriter
from tests.event_log.logged import AT, answer

CASES = {
    "free": Event("ann", "item-1", 1.0, AT + 5, "free", "click", None, AT + 5),
    "claimed": Event("ann", "item-1", 1.0, AT + 6, "claimed", "click", "r0", AT + 6),
    "of nobody": Event(None, "item-1", 1.0, AT + 6, "of nobody", "cart", "r0", AT + 6),
    "logged in since": Event("bob", "item-1", 1.0, AT + 6, "logged in since", "click", "r1", AT + 6),
    "again": Event("ann", "item-1", 1.0, AT + 7, "again", "click", "r0", AT + 7),
    "another kind": Event("ann", "item-1", 1.0, AT + 8, "another kind", "purchase", "r0", AT + 8),
    "unknown": Event("ann", "item-1", 1.0, AT + 6, "unknown", "click", "r9", AT + 6),
    "not shown": Event("ann", "item-9", 1.0, AT + 6, "not shown", "click", "r0", AT + 6),
    "bob": Event("bob", "item-2", 1.0, AT + 6, "bob", "click", "r0", AT + 6),
    "in time": Event("ann", "item-2", 1.0, AT + 60, "in time", "click", "r0", AT + 600),
    "late": Event("ann", "item-2", 1.0, AT + 61, "late", "purchase", "r0", AT + 61),
    "a clock behind": Event("ann", "item-0", 1.0, AT - 60, "a clock behind", "click", "r0", AT + 1),
    "before": Event("ann", "item-0", 1.0, AT - 61, "before", "cart", "r0", AT + 1),
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
        log = LogWriter(folder)
        if answer_comes == "first":
            log.expose([answer(0), answer(1, None)])
        for name in order:
            log.record([CASES[name]])
        if answer_comes == "last":
            log.compact()
            log.expose([answer(0), answer(1, None)])
        log.close()
        found = marked(read(folder), attribution_s=60)
        marks = dict(found.select("event_id", "mark").iter_rows())
        assert marks == {name: WANTED.get(name, "claimed") for name in CASES}
        assert set(marks.values()) == set(MARKS)
        assert found.height == len(CASES)
        assert found.filter(event_id="in time")["rank"].item() == 3
