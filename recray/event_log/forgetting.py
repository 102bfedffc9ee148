"""Deletes what names one user, down to the last byte.

Events go before answers: until the last event is gone that claims an answer of the user, the answer says
whose it was. An answer to nobody in particular that an event of the user claims was the user's too: what was
asked for it (``named``, ``context``) goes with it. Other nodes, which may have such events and answers, or
know their ids, are told by digests.
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
    Forgotten(log.folder).begin(user_id, _nodes(log.folder))
    _delete(log, user_id)
    for _ in range(2):  # what the last one finds of the user's answers concerns the first one's events
        go_on(log)
        for idle in idle_nodes(log.folder, log.node):
            go_on(idle)


def go_on(log: Writes) -> None:
    """Ends the deletions that were interrupted, or that another node began."""
    forgotten = Forgotten(log.folder)
    asked = forgotten.asked(log.node)
    if not asked:
        return
    users = log.do(lambda live: live.users())
    users.update(*(_found(log.folder, table, _ALL, "user_id") for table in TABLES))
    for user_id in forgotten.among(users, asked):
        _delete(log, user_id)
    if told := forgotten.told(asked):
        ids = log.do(lambda live: live.named()) | {*_found(log.folder, "events", _ALL, "request_id")}
        claimed = forgotten.among(_nobodys(log), told, CLAIMED)
        if named := [*forgotten.among(ids, told), *claimed]:
            _delete_named(log, asked, named, claimed)
    forgotten.end(log.node, asked, told)


_ALL = pl.lit(value=True)
_OF_NOBODY = pl.col("user_id").is_null()
CLAIMED = "claimed "  # before the id of an answer: of nobody in particular, and to be deleted too


def _nodes(folder: Path) -> list[str]:
    return [file.stem for file in live_files(folder)]


def _delete(log: Writes, user_id: str) -> None:
    with partitions_locked(log.folder):
        of_user = pl.col("user_id").eq_missing(user_id)
        claims = {*_found(log.folder, "events", of_user, "request_id")}
        claims |= log.do(lambda live: live.claims_of(user_id))
        claimed = sorted(claims & _nobodys(log))
        answers = _found(log.folder, "shown", of_user, "request_id") + claimed
        answers += log.do(lambda live: live.answers_of(user_id))
        asked = Forgotten(log.folder).digest(user_id)
        # Here too: without the events nothing else says which they are.
        Forgotten(log.folder).tell(asked, (CLAIMED + each for each in claims), _nodes(log.folder))
        _delete_events(log, asked, answers, answers, user_id)
        _delete_answers(log, of_user, claimed, user_id)
        log.do(lambda live: live.tidy(), alone=True)


def _delete_named(log: Writes, asked: frozenset[str], ids: list[str], claimed: list[str]) -> None:
    """What other nodes told of: claims of answers that they had, ids of events that they deleted, and answers
    to nobody in particular that the user's events claimed."""
    with partitions_locked(log.folder):
        _delete_events(log, asked, ids, claimed)
        _delete_answers(log, pl.lit(value=False), claimed)
        log.do(lambda live: live.tidy(), alone=True)


def _nobodys(log: Writes) -> set[str]:
    """Ids of the answers to nobody in particular."""
    return log.do(lambda live: live.nobodys()) | {*_found(log.folder, "shown", _OF_NOBODY, "request_id")}


def _delete_answers(log: Writes, which: pl.Expr, claimed: list[str], user_id: str | None = None) -> None:
    """A user's, and those to nobody in particular that it claimed."""
    _remove(log.folder, "shown", which | (_OF_NOBODY & pl.col("request_id").is_in(claimed)))
    log.do(lambda live: live.forget_answers(user_id, claimed))


def _delete_events(
    log: Writes, asked: frozenset[str], ids: list[str], told: list[str], user_id: str | None = None
) -> None:
    """A user's, and those that claim an answer of the ids, whoever they are of."""
    which = pl.col("request_id").is_in(ids).fill_null(value=False)
    if user_id is not None:
        which |= pl.col("user_id").eq_missing(user_id)
    event_ids = _found(log.folder, "events", which, "event_id")
    others = [node for node in _nodes(log.folder) if node != log.node]
    Forgotten(log.folder).tell(asked, [*told, *event_ids], others)
    log.do(lambda live: live.forget_events(user_id, ids, [*ids, *event_ids]))
    _remove(log.folder, "events", which)


def _found(folder: Path, table: Table, which: pl.Expr, column: str) -> list[str]:
    """The values of a column in some rows of all partitions."""
    found: list[str] = []
    for file in partitions(folder, table):
        rows = pl.scan_parquet(file.path, hive_partitioning=False).filter(which)
        found += rows.select(pl.col(column).drop_nulls().unique()).collect()[column].to_list()
    return found


def _remove(folder: Path, table: Table, which: pl.Expr) -> None:
    for file in partitions(folder, table):
        if pl.scan_parquet(file.path, hive_partitioning=False).select(which.any()).collect().item():
            replace(file.path, pl.read_parquet(file.path, hive_partitioning=False).filter(~which))
