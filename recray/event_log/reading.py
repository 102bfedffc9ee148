"""Reads a log while it is written and compacted: each row once."""

from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import polars as pl

from recray.event_log.live import LIVE, LiveRows, live_file, live_files
from recray.event_log.partitions import Partition, last_row, partitions
from recray.event_log.records import Event, Fact
from recray.event_log.tables import SHOWN, Table, as_table
from recray.schema import DataError

TRIES = 20

T = TypeVar("T")


class Log(NamedTuple):
    """The tables of ``tables``, of all nodes, in the order in which each node wrote them."""

    shown: pl.DataFrame  # one row per shown item, and a column per feature
    events: pl.DataFrame


def read(folder: Path, since: float | None = None, until: float | None = None) -> Log:
    """What the log of an application holds: events up to a moment, and all answers that were given before it.

    Args:
        since, until: unix seconds, of when an answer was given and of when an event came: from the one, up to
            and without the other.
    Raises:
        DataError: there is no log, or a file is damaged.
    """

    def look() -> Log:
        events = _table(folder, "events", since, until)  # first: what they claim was there before them
        return Log(_table(folder, "shown", since, until), events)

    return _again(look)


def read_events(folder: Path, until: float | None = None) -> pl.DataFrame:
    """The events alone, up to a moment; see ``read``.

    Raises:
        DataError: there is no log, or a file is damaged.
    """
    return _again(lambda: _table(folder, "events", None, until))


def newest_events(folder: Path, most: int) -> list[Event]:
    """In the order in which they came, of all nodes; none where there is no log.

    Raises:
        DataError: a file is damaged.
    """
    if not (folder / LIVE).is_dir():
        return []
    table = _again(lambda: _table(folder, "events", None, None, most=most))
    newest = table.sort("received", "node", "seq").tail(most)
    return [Event(*row) for row in newest.select(*Event._fields).iter_rows()]


def rows_after(folder: Path, table: Table, node: str, after: int, most: int) -> pl.DataFrame:
    """The next rows that a node wrote, in the order of ``seq``; of an answer that begins among them all.

    Args:
        after: ``seq`` of the last row that is not wanted.
    Raises:
        DataError: a file is damaged.
    """

    def look() -> pl.DataFrame:
        with closing(LiveRows(live_file(folder, node))) as live:
            files = [file for file in partitions(folder, table) if file.node == node and file.last > after]
            parts = [_partition(file, pl.col("seq") > after) for file in files]
            waiting = live.rows(table, last_row(files, node) or after, most)
            parts.append(as_table(table, waiting, node))
        rows = pl.concat(parts, how="diagonal").sort("seq", maintain_order=True)
        return rows.filter(pl.col("seq") <= rows["seq"][min(most, len(rows)) - 1]) if len(rows) else rows

    return _again(look)


def read_facts(folder: Path) -> list[Fact]:
    """The last one of each key, oldest first; none where there is no log."""
    facts: dict[str, Fact] = {}
    for file in live_files(folder):
        with closing(LiveRows(file)) as rows:
            for fact in map(Fact._make, rows.facts()):
                if fact.key not in facts or facts[fact.key].at <= fact.at:
                    facts[fact.key] = fact
    return sorted(facts.values(), key=lambda fact: fact.at)


def _again(look: Callable[[], T]) -> T:
    """Until no file went away meanwhile, which was merged into another one."""
    for _ in range(TRIES - 1):
        with suppress(FileNotFoundError):
            return look()
    return look()


class Parts(NamedTuple):
    """What a table is made of at one moment."""

    files: list[Partition]
    live: pl.DataFrame  # rows that are in none of them yet


def parts(folder: Path, table: Table) -> Parts:
    """Rows that move from a live file to a partition meanwhile are in both, and none is in neither: what is
    live is looked at first.

    Raises:
        DataError: there is no log, or a file is damaged.
    """
    if not (folder / LIVE).is_dir():
        raise DataError(f"there is no log in {folder}: serve the application, and ask it")
    with ExitStack() as stack:
        live = {file.stem: stack.enter_context(closing(LiveRows(file))) for file in live_files(folder)}
        files = partitions(folder, table)
        rows = [
            as_table(table, of_node.rows(table, last_row(files, node)), node)
            for node, of_node in live.items()
        ]
    return Parts(files, pl.concat(rows, how="diagonal"))


def once(events: pl.DataFrame) -> pl.DataFrame:
    """A node knows what it was told itself: of what was told at two nodes, what came first."""
    comes_first = pl.int_range(pl.len()).over("event_id", order_by=["received", "node", "seq"]) == 0
    return events.filter(comes_first)


def _table(
    folder: Path, table: Table, since: float | None, until: float | None, most: int | None = None
) -> pl.DataFrame:
    time = "received" if table == "events" else "at"
    within = pl.lit(value=True)
    if since is not None:
        within &= pl.col(time) >= since
    if until is not None:
        within &= pl.col(time) < until
    files, live = parts(folder, table)
    rows = [_partition(file, within) for file in _newest(files, most)]
    found = pl.concat([*rows, live.filter(within)], how="diagonal")
    if table == "events":
        return once(found)
    return found.select(*SHOWN, *sorted(set(found.columns) - set(SHOWN)))


def _newest(files: list[Partition], most: int | None) -> list[Partition]:
    """Those of the hours that hold the last so many rows; None: all."""
    if most is None:
        return files
    rows = 0
    for place in reversed(range(len(files))):
        rows += files[place].last - files[place].first + 1
        if rows >= most:
            return [file for file in files if file.path.parent >= files[place].path.parent]
    return files


def _partition(file: Partition, within: pl.Expr) -> pl.DataFrame:
    try:
        return pl.scan_parquet(file.path, hive_partitioning=False).filter(within).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{file.path} cannot be read: {error}") from error
