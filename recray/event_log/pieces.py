"""Reads what was shown piece by piece: whole answers, and no more of them at a time than fits in memory."""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import polars as pl

from recray.event_log.partitions import Partition, read_rows
from recray.event_log.reading import parts
from recray.event_log.tables import SHOWN

PIECE_ROWS = 200_000  # shown items


def pieces(
    folder: Path,
    wanted: Callable[[str], bool],
    since: float | None = None,
    until: float | None = None,
    rows: int | None = None,
) -> Iterator[pl.DataFrame]:
    """The table ``shown``, by hour and node, then what is live: never part of an answer.

    Args:
        wanted: which columns, by name; ``seq`` and ``at`` are always there.
        since, until: unix seconds of the answers: from the one, up to and without the other.
        rows: about so many at once; None: PIECE_ROWS.
    Raises:
        DataError: there is no log, or a file is damaged.
    """
    within = pl.col("at").is_between(
        float("-inf") if since is None else since, float("inf") if until is None else until, closed="left"
    )
    files, live = parts(folder, "shown")
    for file in files:
        for piece in _of_file(file, rows or PIECE_ROWS):
            if len(kept := _some(piece, wanted).filter(within)):
                yield kept
    if len(kept := _some(live, wanted).filter(within).sort("at", "node", "seq", maintain_order=True)):
        yield kept


def newest(folder: Path, answers: int) -> float:
    """Unix seconds of the first of the last so many answers; earlier ones are not looked at.

    Raises:
        DataError: there is no log, or a file is damaged.
    """
    files, live = parts(folder, "shown")
    ats = live.group_by("node", "seq").agg(pl.col("at").first())["at"].top_k(answers)
    for _, of_hour in groupby(reversed(files), lambda file: file.path.parent):
        tables = [_all_of(file).group_by("seq").agg(pl.col("at").first()) for file in of_hour]
        found = pl.concat([table.collect()["at"] for table in tables])
        if len(ats) >= answers and found.max() < ats.min():  # type: ignore[operator]
            break  # as are all hours before
        ats = pl.concat([ats, found]).top_k(answers)
    return float(ats.min() or 0.0)  # type: ignore[arg-type]


def _of_file(file: Partition, rows: int) -> Iterator[pl.DataFrame]:
    table = _all_of(file)
    count, begun = table.select(pl.len()).collect().item(), list[pl.DataFrame]()
    for start in range(0, count, rows):
        piece = pl.concat([*begun, table.slice(start, rows).collect()])
        begun = []
        if start + rows < count:  # the last answer may go on
            goes_on = pl.col("seq") == piece["seq"][-1]
            begun, piece = [piece.filter(goes_on)], piece.filter(~goes_on)
        yield piece


def _all_of(file: Partition) -> pl.LazyFrame:
    if file.path.exists():
        return pl.scan_parquet(file.path, hive_partitioning=False)
    return read_rows(file.path).lazy()  # it was merged into another one meanwhile


def _some(table: pl.DataFrame, wanted: Callable[[str], bool]) -> pl.DataFrame:
    """A column that the file is older than is null."""
    names = dict.fromkeys((*SHOWN, *table.columns))
    return table.select(
        name if name in table.columns else pl.lit(None, SHOWN[name]).alias(name)
        for name in names
        if name in ("at", "node", "seq") or wanted(name)
    )
