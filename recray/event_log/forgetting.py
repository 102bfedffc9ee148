"""Deletes what names one user, down to the last byte.

Events go before answers: until the last event is gone that claims an answer of the user, the answer says
whose it was.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

import polars as pl

from recray.event_log.compaction import Writes, partitions_locked
from recray.event_log.forgotten import Forgotten
from recray.event_log.live import LIVE, HeldError, LiveFile, held
from recray.event_log.partitions import TABLES, partitions, replace
from recray.event_log.tables import Table

T = TypeVar("T")


def forget(log: Writes, user_id: str) -> None:
    """In the partitions, and in the live files of this node and of those that nobody writes; other nodes
    see to theirs themselves, within a minute.

    Raises:
        DataError: a file is damaged or the disk is full; it goes on when a log of the folder is next opened.
    """
    forgotten = Forgotten(log.folder)
    others = [file.stem for file in (log.folder / LIVE).glob("*.sqlite") if file.stem != log.node]
    asked = forgotten.begin(user_id, [log.node, *others])
    _delete(log, user_id)
    forgotten.end(log.node, asked)
    for node in others:
        with suppress(HeldError), _Idle(log.folder, node) as idle:
            go_on(idle)


def go_on(log: Writes) -> None:
    """Ends the deletions that were interrupted, or that another node began."""
    forgotten = Forgotten(log.folder)
    if asked := forgotten.asked(log.node):
        users = log.do(lambda live: live.users()) | _users(log.folder)
        for user_id in forgotten.among(users, asked):
            _delete(log, user_id)
        forgotten.end(log.node, asked)


class _Idle:
    """A node that no process writes.

    Raises, when it is entered:
        HeldError: one does.
    """

    def __init__(self, folder: Path, node: str) -> None:
        self.folder, self.node = folder, node
        self._held = ExitStack()

    def __enter__(self) -> "_Idle":
        self._held.enter_context(held(self.folder, self.node))
        self._live = self._held.enter_context(closing(LiveFile(self.folder, self.node)))
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def do(self, work: Callable[[LiveFile], T], size: int = 0, *, alone: bool = False) -> T:
        with nullcontext() if alone else self._live.whole():
            return work(self._live)


def _delete(log: Writes, user_id: str) -> None:
    with partitions_locked(log.folder):
        answers = _found(log.folder, "shown", pl.col("user_id") == user_id, "request_id")
        answers += log.do(lambda live: live.answers_of(user_id))
        of_user = pl.col("user_id").eq_missing(user_id)
        events = of_user | pl.col("request_id").is_in(answers).fill_null(value=False)
        event_ids = _found(log.folder, "events", events, "event_id")
        log.do(lambda live: live.forget_events(user_id, answers, event_ids))
        _remove(log.folder, "events", events)
        _remove(log.folder, "shown", of_user)
        log.do(lambda live: live.forget_answers(user_id))
        log.do(lambda live: live.tidy(), alone=True)


def _found(folder: Path, table: Table, which: pl.Expr, column: str) -> list[str]:
    """The values of a column in some rows of all partitions."""
    found: list[str] = []
    for file in partitions(folder, table):
        rows = pl.scan_parquet(file.path, hive_partitioning=False).filter(which)
        found += rows.select(pl.col(column).drop_nulls().unique()).collect()[column].to_list()
    return found


def _users(folder: Path) -> set[str]:
    return {user for table in TABLES for user in _found(folder, table, pl.lit(value=True), "user_id")}


def _remove(folder: Path, table: Table, which: pl.Expr) -> None:
    for file in partitions(folder, table):
        if pl.scan_parquet(file.path, hive_partitioning=False).select(which.any()).collect().item():
            replace(file.path, pl.read_parquet(file.path, hive_partitioning=False).filter(~which))
