"""Reads what was shown piece by piece: whole answers, and no more of them at a time than fits in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from recray.event_log.partitions import Partition, read_rows
from recray.event_log.reading import parts

PIECE_ROWS = 200_000  # shown items


def pieces(
    folder: Path,
    wanted: Callable[[str], bool],
    since: float | None = None,
    until: float | None = None,
    rows: int = PIECE_ROWS,
) -> Iterator[pl.DataFrame]:
    """The table ``shown``, by hour and node, then what is live: never part of an answer.

    Args:
        wanted: which columns, by name; ``seq`` and ``at`` are always there.
        since, until: unix seconds of the answers: from the one, up to and without the other.
        rows: about so many at once.
    Raises:
        DataError: there is no log, or a file is damaged.
    """
    within = pl.col("at").is_between(
        float("-inf") if since is None else since, float("inf") if until is None else until, closed="left"
    )
    files, live = parts(folder, "shown")
    for file in files:
        for piece in _of_file(file, rows):
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
    ats = live.group_by("node", "seq").agg(pl.col("at").first())["at"]
    for place in reversed(range(len(files))):
        later = files[place + 1].path.parent if place + 1 < len(files) else None
        if len(ats) >= answers and files[place].path.parent != later:
            break
        found = _all_of(files[place]).group_by("seq").agg(pl.col("at").first()).collect()["at"]
        ats = pl.concat([ats, found]).top_k(answers)
    return float(ats.top_k(answers).min() or 0.0)  # type: ignore[arg-type]


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
    return table.select(name for name in table.columns if name in ("at", "node", "seq") or wanted(name))
