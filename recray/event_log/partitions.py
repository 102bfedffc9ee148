"""What was compacted: Parquet files by table, day and hour, of consecutive rows of one node.

A file's name says which rows it holds, so that a crash between writing it and taking them out of the live
file costs nothing: whoever reads goes by the name. A file whose rows another one of its hour and node holds
too was merged into that one.
"""

import datetime
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from recray.event_log.live import HOUR_S
from recray.event_log.tables import Table, as_table
from recray.folders import fsync, put, room_in

TABLES: tuple[Table, ...] = ("events", "shown")
MOST_ROWS = 50_000  # of one file, as they are in the live file
_NAME = re.compile(r"(?P<node>.+)-(?P<first>\d+)-(?P<last>\d+)\.parquet")


class Partition(NamedTuple):
    path: Path
    node: str
    first: int
    last: int


def partitions(folder: Path, table: Table) -> list[Partition]:
    """Of all nodes, oldest first; without those that were merged into another one."""
    found = _named((folder / table).glob("day=*/hour=*/*.parquet"))
    found.sort(key=lambda file: (file.path.parent, file.node, file.first))
    beside: dict[tuple[Path, str], list[Partition]] = {}
    for one in found:
        beside.setdefault((one.path.parent, one.node), []).append(one)
    return [
        one for one in found if not any(_holds(other, one) for other in beside[one.path.parent, one.node])
    ]


def _named(paths: Iterable[Path]) -> list[Partition]:
    return [
        Partition(path, match["node"], int(match["first"]), int(match["last"]))
        for path in paths
        if (match := _NAME.fullmatch(path.name))
    ]


def _holds(whole: Partition, part: Partition) -> bool:
    return whole.path != part.path and whole.first <= part.first and part.last <= whole.last


def last_row(files: Iterable[Partition], node: str) -> int:
    """Up to which a node's rows are in files."""
    return max((file.last for file in files if file.node == node), default=0)


def write_partition(folder: Path, table: Table, node: str, hour: int, rows: list[tuple[Any, ...]]) -> None:
    """Whole, and on the disk, or not at all.

    Args:
        hour: since 1970.
        rows: as the live file has them, consecutive.
    Raises:
        DataError: the disk is full.
    """
    _put(as_table(table, rows, node), _path(folder, table, node, hour, rows[0][0], rows[-1][0]))


def merge(folder: Path, node: str) -> None:
    """Makes one file of a node's files of each hour that is over."""
    for table in TABLES:
        by_hour: dict[Path, list[Partition]] = {}
        for file in partitions(folder, table):
            if file.node == node and file.path.parent != _hour_folder(folder, table, _now_hour()):
                by_hour.setdefault(file.path.parent, []).append(file)
        for parent, files in by_hour.items():
            if len(files) > 1:
                first, last = min(f.first for f in files), max(f.last for f in files)
                frame = pl.concat(
                    [pl.read_parquet(f.path, hive_partitioning=False) for f in files], how="diagonal"
                )
                _put(frame.sort("seq", maintain_order=True), parent / f"{node}-{first}-{last}.parquet")
    _remove_merged(folder, node)


def _remove_merged(folder: Path, node: str) -> None:
    for table in TABLES:
        current = {file.path for file in partitions(folder, table)}
        for path in (folder / table).glob(f"day=*/hour=*/{node}-*.parquet"):
            if path not in current:
                path.unlink()


def remove_old(folder: Path, keep_days: int) -> None:
    """Deletes partitions of all nodes that ended longer ago."""
    before = int(time.time() // HOUR_S) - 24 * keep_days
    for table in TABLES:
        for file in partitions(folder, table):
            if file.path.parent < _hour_folder(folder, table, before):
                file.path.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Files that were being written when their writer was killed; of whoever holds the partitions' lock."""
    for table in TABLES:
        for path in (folder / table).glob("day=*/hour=*/.*.new"):
            path.unlink()


def read_rows(path: Path) -> pl.DataFrame:
    """Of a file, or of the one that it was merged into since.

    Raises:
        FileNotFoundError: it was deleted.
    """
    try:
        return pl.read_parquet(path, hive_partitioning=False)
    except FileNotFoundError:
        (part,) = _named([path])
        for whole in _named(path.parent.glob("*.parquet")):
            if whole.node == part.node and _holds(whole, part):
                rows = pl.read_parquet(whole.path, hive_partitioning=False)
                return rows.filter(pl.col("seq").is_between(part.first, part.last))
        raise


def replace(path: Path, frame: pl.DataFrame) -> None:
    """A file's rows by others of the same range; readers see the ones or the others."""
    _put(frame, path)


def _now_hour() -> int:
    return int(time.time() // HOUR_S)


def _hour_folder(folder: Path, table: Table, hour: int) -> Path:
    at = datetime.datetime.fromtimestamp(hour * HOUR_S, datetime.UTC)
    return folder / table / f"day={at:%Y-%m-%d}" / f"hour={at:%H}"


def _path(folder: Path, table: Table, node: str, hour: int, first: int, last: int) -> Path:
    return _hour_folder(folder, table, hour) / f"{node}-{first}-{last}.parquet"


def _put(frame: pl.DataFrame, path: Path) -> None:
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.new")
    try:
        with room_in(path.parent):
            frame.write_parquet(staged, compression="zstd")
            fsync(staged)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    put(staged, path)
    for parent in missing:
        fsync(parent.parent)
