"""Whether a folder still has all that its log acknowledged, and nothing that is half there."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import polars as pl

from benchmarks.events_worker import LEAVES, answer_of, event_of, user_of
from recray.event_log.reading import read
from recray.event_log.tables import events_table, shown_table
from recray.event_log.writer import LogWriter

NEW = 10**9  # a number that no program came to


class Lost(NamedTuple):
    """What should not be; all zero where a log keeps its word."""

    acknowledged: int  # events and answers that are not there
    half: int  # that are there more than once, or not as they were written
    not_forgotten: int  # files in which somebody is who was forgotten


class Acknowledged:
    """What a program was told, by the lines that it wrote."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.events, self.answers = set[int](), set[int]()
        self.leaving = self.left = False
        for line in lines:
            if not line.endswith("\n"):  # it was killed meanwhile
                continue
            said = json.loads(line)
            self.leaving |= "leaving" in said
            self.left |= "left" in said
            self.events |= {said["event"]} if "event" in said else set()
            self.answers |= {said["answer"]} if "answer" in said else set()
        if self.leaving:
            self.events = {number for number in self.events if user_of(number) != LEAVES}
            self.answers = {number for number in self.answers if user_of(number) != LEAVES}


def lost(folder: Path, acknowledged: Acknowledged) -> Lost:
    """Opens it as a server would that starts again, reads it, and goes on writing.

    What was acknowledged is handed over again, as clients do that do not know: it must be known.
    """
    not_forgotten = _files_with(folder, LEAVES) if acknowledged.left else 0
    log = LogWriter(folder, compact_every_s=3_600.0)
    try:
        missing, half = differing(folder, acknowledged)
        taken = log.record([event_of(number) for number in sorted(acknowledged.events)]).taken
        log.record([event_of(NEW)])
        log.expose([answer_of(NEW)])
        log.compact()
        missing_later, half_later = differing(folder, acknowledged)
        log.forget(LEAVES)
        not_forgotten += _files_with(folder, LEAVES)
    finally:
        log.close()
    return Lost(max(missing, missing_later, taken), max(half, half_later), not_forgotten)


def differing(folder: Path, acknowledged: Acknowledged) -> tuple[int, int]:
    """How many are not there, and how many are not whole."""
    log, key = read(folder), {"events": "event_id", "shown": "request_id"}
    found = {int(name.split("-")[1]): rows for name, rows in _by(log.events, key["events"]).items()}
    answers = {int(name.split("-")[1]): rows for name, rows in _by(log.shown, key["shown"]).items()}
    wanted_events = events_table([(n, *event_of(n)) for n in sorted(found)], "local")
    wanted_answers = shown_table([(n, *answer_of(n)) for n in sorted(answers)], "local")
    half = _not_equal(found, _by(wanted_events, key["events"]))
    half += _not_equal(answers, _by(wanted_answers, key["shown"]))
    return len(acknowledged.events - found.keys()) + len(acknowledged.answers - answers.keys()), half


def _by(table: pl.DataFrame, key: str) -> dict[str, pl.DataFrame]:
    return {
        str(name): rows for (name,), rows in table.drop("seq", "node").partition_by(key, as_dict=True).items()
    }


def _not_equal(found: dict[int, pl.DataFrame], wanted: dict[str, pl.DataFrame]) -> int:
    number_of = {int(name.split("-")[1]): rows for name, rows in wanted.items()}
    return sum(not rows.equals(number_of[number]) for number, rows in found.items())


def _files_with(folder: Path, text: str) -> int:
    return sum(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
