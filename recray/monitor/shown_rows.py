"""The log of what was shown, as drift counts it: a column for each thing that may move.

Shapes: N rows, I items, R random Fourier features.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recray.arrays import Float32s, Int64s
from recray.event_log.partitions import read_rows
from recray.event_log.reading import parts
from recray.event_log.tables import FEATURE
from recray.monitor.drift_report import Group
from recray.monitor.sketch import BARS, Rows, Sketch, Watched, watched_labels, watched_numbers
from recray.schema import DataError

CONTEXT = "context:"
POPULARITY = "item popularity"  # log2(1 + interactions that were learnt from)
ANSWERED = {"answered": ("whole", "fallback", "a stage left out", "empty")}
OF_IDS = {"user": ("known", "unknown", "nobody"), "item": ("known", "unknown")}
NEEDED = ("at", "user_id", "request_id", "item_id", "rank", "score")
MOST_CONTEXT = 8  # keys that are watched: those that most requests have
_KEY = re.compile(r"\w{1,40}")
_DAY = re.compile(r"day=(\d{4}-\d\d-\d\d)/hour=(\d\d)")
HOUR_S = 3600


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What a version learnt of items and users."""

    items: pl.Series  # raw ids; row = item
    counts_I: Int64s  # interactions that were learnt from
    users: pl.Series  # raw ids of those that something was learnt of
    features_IR: Float32s | None = None  # of the items' vectors, see ``fourier_features``; None: it has none

    @property
    def num_features(self) -> int:
        return 0 if self.features_IR is None else self.features_IR.shape[1]


def rows_of(shown: pl.DataFrame, catalogue: Catalogue | None, watched: Sequence[Watched] = ()) -> list[Rows]:
    """Shown items with all that is known of them, and answers without any.

    Args:
        shown: as ``event_log`` has it; a file may lack what is not in ``NEEDED``.
        watched: keys of the context that are wanted stand there.
    Raises:
        DataError: a needed column is missing.
    """
    if missing := [name for name in NEEDED if name not in shown.columns]:
        raise DataError(
            f"what was shown has no column {', '.join(missing)}: it must be as recray's log (docs/events.md)"
        )
    shown = shown.with_columns(_as_ids(shown[name]) for name in ("user_id", "item_id", "request_id"))
    is_empty = (pl.col("rank") == 0) | pl.col("item_id").is_null()
    keys = [one.name for one in watched if one.name.startswith(CONTEXT)]
    full, empty = shown.filter(~is_empty), shown.filter(is_empty)
    found = [_rows(full, catalogue, keys, of_items=True)] if len(full) else []
    return [*found, *([_rows(empty, catalogue, keys, of_items=False)] if len(empty) else [])]


def _rows(shown: pl.DataFrame, catalogue: Catalogue | None, keys: Sequence[str], *, of_items: bool) -> Rows:
    columns = {"answered": _answered(shown), **_context(shown, keys)}
    items = item_rows_N = None
    if catalogue is not None:
        is_known = shown["user_id"].is_in(catalogue.users.implode())
        columns["user"] = _named(shown["user_id"].is_null(), "nobody", is_known)
    if of_items:
        columns |= {name.removeprefix(FEATURE): shown[name] for name in shown.columns if FEATURE in name}
        columns |= {name: shown[name] for name in ("score", "source") if name in shown.columns}
        items = shown["item_id"]
        if catalogue is not None:
            places = items.replace_strict(
                catalogue.items, np.arange(len(catalogue.items)), default=-1, return_dtype=pl.Int64
            )
            item_rows_N = places.to_numpy()
            columns["item"] = pl.select(
                pl.when(places >= 0).then(pl.lit("known")).otherwise(pl.lit("unknown"))
            ).to_series()
            counts_N = catalogue.counts_I[np.maximum(item_rows_N, 0)]
            columns[POPULARITY] = pl.Series(np.log2(1.0 + np.where(item_rows_N >= 0, counts_N, 0)))
    return Rows(
        at_N=shown["at"].to_numpy(),
        users=shown["user_id"].fill_null(shown["request_id"]),  # nobody in particular: each is another one
        answers=shown["request_id"],
        columns=pl.DataFrame(columns),
        items=items,
        item_rows_N=item_rows_N,
    )


def _as_ids(column: pl.Series) -> pl.Series:
    """As text: a file may have numbers, and floats of them where some are missing."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = column.cast(pl.Int64, strict=False)
        column = whole if (whole == column).all() else column
    return column.cast(pl.String)


def _named(is_null: pl.Series, null: str, is_known: pl.Series) -> pl.Series:
    known = pl.when(is_known.fill_null(value=False)).then(pl.lit("known")).otherwise(pl.lit("unknown"))
    return pl.select(pl.when(is_null).then(pl.lit(null)).otherwise(known)).to_series()


def _answered(shown: pl.DataFrame) -> pl.Series:
    def column(name: str, instead: object) -> pl.Expr:
        return pl.col(name) if name in shown.columns else pl.lit(instead)

    left_out = column("skipped", None).cast(pl.List(pl.String)).list.len().fill_null(0) > 0
    return shown.select(
        pl.when(pl.col("rank") == 0)
        .then(pl.lit("empty"))
        .when(left_out)
        .then(pl.lit("a stage left out"))
        .when(column("fallback", None).is_not_null())
        .then(pl.lit("fallback"))
        .otherwise(pl.lit("whole"))
        .alias("answered")
    )["answered"]


def _context(shown: pl.DataFrame, keys: Sequence[str]) -> dict[str, pl.Series]:
    if "context" not in shown.columns:
        return {}
    return {
        key: shown["context"].str.json_path_match(f"$.{key.removeprefix(CONTEXT)}").alias(key) for key in keys
    }


def context_keys(shown: pl.DataFrame) -> list[str]:
    """Those that most requests have, of a sample."""
    if "context" not in shown.columns:
        return []
    counted: dict[str, int] = {}
    for text in shown["context"].drop_nulls().head(10_000).to_list():
        for key in re.findall(r'"(\w+)":', text):
            counted[key] = counted.get(key, 0) + 1
    often = sorted(counted, key=lambda key: -counted[key])[:MOST_CONTEXT]
    return [CONTEXT + key for key in often if _KEY.fullmatch(key)]


def watch(shown: pl.DataFrame, catalogue: Catalogue | None) -> tuple[Watched, ...]:
    """What is watched, told apart by a sample of the reference's rows."""
    keys = [Watched(name=key, group="context") for key in context_keys(shown)]
    rows = rows_of(shown, catalogue, keys)
    if not rows:
        return ()
    watched = []
    for values in rows[0].columns:
        name = values.name
        if labels := {**ANSWERED, **OF_IDS}.get(name):
            group: Group = "users" if name == "user" else "items" if name == "item" else "lists"
            watched.append(Watched(name=name, group=group, labels=labels))
        elif name.startswith(CONTEXT):
            watched.append(_of_context(values))
        elif values.dtype == pl.String:
            watched.append(watched_labels(name, "items", values))
        elif name == POPULARITY:
            watched.append(watched_numbers(name, "items", values))
        else:
            watched.append(watched_numbers(name, "scores" if "score" in name else "features", values))
    return tuple(watched)


def _of_context(values: pl.Series) -> Watched:
    """As numbers, where they are."""
    numbers = values.cast(pl.Float64, strict=False)
    is_number = numbers.count() == values.count() and numbers.n_unique() > BARS
    if is_number:
        return watched_numbers(values.name, "context", numbers)
    return watched_labels(values.name, "context", values)


def empty_sketch(watched: Sequence[Watched], catalogue: Catalogue | None, *, slots: int) -> Sketch:
    return Sketch.empty(
        watched,
        slots=slots,
        num_items=len(catalogue.items) if catalogue else 0,
        num_features=catalogue.num_features if catalogue else 0,
    )


def add_shown(sketch: Sketch, shown: pl.DataFrame, catalogue: Catalogue | None) -> None:
    """Counts a stretch of the log."""
    for rows in rows_of(shown, catalogue, sketch.watched):
        sketch.add(rows, catalogue.features_IR if catalogue else None)


def stretches(
    folder: Path, since: float, until: float, columns: Sequence[str] = ()
) -> Iterator[pl.DataFrame]:
    """What was shown from one moment up to another, file by file, so that memory holds one hour of a node.

    Args:
        columns: that are wanted; none: all.
    Raises:
        DataError: there is no log, or a file is damaged.
    """
    files, live = parts(folder, "shown")
    within = (pl.col("at") >= since) & (pl.col("at") < until)
    wanted = pl.col(*columns) if columns else pl.all()
    for file in files:
        found = _DAY.search(file.path.as_posix())
        if found and _hour(*found.groups()) + 2 * HOUR_S < since:  # rows are written after they were shown
            continue
        try:
            rows = pl.scan_parquet(file.path, hive_partitioning=False).filter(within).select(wanted).collect()
        except FileNotFoundError:  # it was merged into another one meanwhile, or deleted by its age
            rows = None
            with suppress(FileNotFoundError):
                rows = read_rows(file.path).filter(within).select(wanted)
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{file.path} cannot be read: {error}") from error
        if rows is not None and len(rows):
            yield rows
    if len(rest := live.filter(within).select(wanted)):
        yield rest


def _hour(day: str, hour: str) -> float:
    """Unix seconds at which it begins."""
    return float(np.datetime64(f"{day}T{hour}:00", "s").astype(np.int64))
