"""Deletes what names one user, down to the last byte.

Events go before answers: until the last event is gone that claims an answer of the user, the answer says
whose it was.
"""

from pathlib import Path

import polars as pl

from recray.event_log.compaction import Writes, partitions_locked
from recray.event_log.forgotten import Forgotten
from recray.event_log.idle import idle_nodes
from recray.event_log.live import live_files
from recray.event_log.partitions import TABLES, partitions, replace
from recray.event_log.tables import Table


def forget(log: Writes, user_id: str) -> None:
    """In the partitions, and in the live files of this node and of those that nobody writes; other nodes
    see to theirs themselves, within a minute.

    Raises:
        DataError: a file is damaged or the disk is full; it goes on when a log of the folder is next opened.
    """
    forgotten = Forgotten(log.folder)
    asked = forgotten.begin(user_id, [file.stem for file in live_files(log.folder)])
    _delete(log, user_id)
    forgotten.end(log.node, asked)
    for idle in idle_nodes(log.folder, log.node):
        go_on(idle)


def go_on(log: Writes) -> None:
    """Ends the deletions that were interrupted, or that another node began."""
    forgotten = Forgotten(log.folder)
    if asked := forgotten.asked(log.node):
        users = log.do(lambda live: live.users()) | _users(log.folder)
        for user_id in forgotten.among(users, asked):
            _delete(log, user_id)
        forgotten.end(log.node, asked)


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
