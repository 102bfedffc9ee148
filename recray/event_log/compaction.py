"""Moves rows from the live file into partitions; stopped at any step, every row is in one of them or both."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from recray.event_log import partitions
from recray.event_log.live import LiveFile, LiveRows, live_file
from recray.event_log.partitions import MOST_ROWS, TABLES, last_row, write_partition
from recray.event_log.tables import Table
from recray.folders import locked

TAKEN_OUT_AT_ONCE = 2_000  # rows; a commit in between lets others through
REMEMBERED_S = 7 * 86_400.0  # within which an event that is told again is known

T = TypeVar("T")


class Writes(Protocol):
    """Whoever writes the live file of a node."""

    folder: Path
    node: str

    def do(self, work: Callable[[LiveFile], T], size: int = 0, *, alone: bool = False) -> T:
        """Does it in a commit, and returns when that is on the disk."""


def compact(log: Writes, keep_days: int) -> int:
    """Returns how many rows moved.

    Args:
        keep_days: partitions of all nodes that are older are deleted; 0: none is.
    Raises:
        DataError: the disk is full, or a file is damaged; nothing is lost.
    """
    moved = 0
    with partitions_locked(log.folder):
        for table in TABLES:
            moved += _move(log, table)
        partitions.merge(log.folder, log.node)
        if keep_days:
            partitions.remove_old(log.folder, keep_days)
    log.do(lambda live: live.forget_ids(time.time() - REMEMBERED_S))
    return moved


@contextmanager
def partitions_locked(folder: Path) -> Iterator[None]:
    """One at a time changes files, of whichever node; what another one began and was killed at is gone."""
    with locked(folder / ".partitions.lock"):
        partitions.remove_unfinished(folder)
        yield


def _move(log: Writes, table: Table) -> int:
    done = last_row(partitions.partitions(log.folder, table), log.node)
    upto, moved = max(done, log.do(lambda live: live.cut(table))), 0
    rows = LiveRows(live_file(log.folder, log.node))
    try:
        for hour, first, last in rows.runs(table, upto):
            for low in range(first, last + 1, MOST_ROWS):
                some = rows.between(table, low, min(last, low + MOST_ROWS - 1))
                write_partition(log.folder, table, log.node, hour, some)
                moved += len(some)
            upto = last
    finally:
        rows.close()
    while not log.do(lambda live: live.take_out(table, upto, TAKEN_OUT_AT_ONCE)):
        pass
    return moved
