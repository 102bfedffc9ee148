"""What ranking features know of items besides their events: labels, numbers and dates, by column."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Float32s, Float64s, Int32s
from recray.features.columns import kind_of, labels, unix_seconds
from recray.schema import DataError

GENRES, YEAR = "genres", "year"  # columns whose features have names of their own
MAX_GENRES = 64  # the most frequent ones are kept


class Labels(NamedTuple):
    """A column of categories, or of several labels per item. W: the most labels that an item has."""

    places_IW: Int32s  # 1 + the place of each label among the names; behind the last one 0
    names: tuple[str, ...]  # in alphabetical order; those of items that were added follow as they came


class Columns(NamedTuple):
    """Names of the columns that features are made of, in the order of the table."""

    labels: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()


class Items(NamedTuple):
    """What the log knows of its items, besides their events; one row per item."""

    labels: Mapping[str, Labels]
    numbers: Mapping[str, Float32s]  # NaN where unknown; ``year`` is the release year
    dates: Mapping[str, Float64s]  # unix seconds, NaN where unknown

    def columns(self) -> Columns:
        return Columns(tuple(self.labels), tuple(self.numbers), tuple(self.dates))


NO_ITEM_FEATURES = Items({}, {}, {})


def item_features(items: pl.DataFrame) -> Items:
    """Every column of an items table that says something a ranker can go by; see ``columns.kind_of``.

    Of ``genres`` the MAX_GENRES most frequent are kept (ties by name).
    """
    kinds = {column.name: kind_of(column) for column in items}

    def of(*wanted: str) -> list[pl.Series]:
        return [column for column in items if kinds[column.name] in wanted]

    return Items(
        {c.name: _labels(c, MAX_GENRES if c.name == GENRES else None) for c in of("labels")},
        {c.name: single(_floats(c.cast(pl.Float64))) for c in of("number", "year")},
        {c.name: _floats(unix_seconds(c)) for c in of("date")},
    )


def _labels(column: pl.Series, most: int | None) -> Labels:
    pairs = pl.DataFrame({"label": pl.Series(list(map(list, labels(column))), dtype=pl.List(pl.String))})
    pairs = pairs.with_row_index("item").explode("label", empty_as_null=True).drop_nulls()
    pairs = pairs.unique(maintain_order=True)
    ranked = pairs.group_by("label").len().sort("len", "label", descending=[True, False])
    names = ranked["label"].head(most or len(ranked)).sort()
    numbered = pl.DataFrame({"label": names, "place": np.arange(1, len(names) + 1, dtype=np.int32)})
    kept = pairs.join(numbered, on="label", how="inner", maintain_order="left")
    item_P = kept["item"].to_numpy()
    starts_P = np.flatnonzero(np.diff(item_P, prepend=-1))
    column_P = np.arange(len(item_P)) - np.repeat(starts_P, np.diff(starts_P, append=len(item_P)))
    places_IW = np.zeros((len(column), int(column_P.max(initial=-1)) + 1), np.int32)
    places_IW[item_P, column_P] = kept["place"].to_numpy()
    return Labels(places_IW, tuple(names.to_list()))


def _floats(column: pl.Series) -> Float64s:
    values: Float64s = column.fill_null(np.nan).to_numpy().astype(np.float64)
    values[np.isinf(values)] = np.nan
    return values


def single(values_N: Float64s) -> Float32s:
    """In single precision; what that cannot hold is missing, as infinity is."""
    too_large_N = np.abs(values_N) > np.finfo(np.float32).max
    return np.where(too_large_N, np.nan, values_N).astype(np.float32)


def item_frame(items: Items, num_items: int) -> pl.DataFrame:
    """The table that ``item_features`` reads back; at least a column ``year``, which counts the rows."""
    columns = {YEAR: pl.Series([None] * num_items, dtype=pl.Float32)}
    for name, (places_IW, names) in items.labels.items():
        text = np.array(["", *names], dtype=object)
        rows = [text[places_W[places_W > 0]].tolist() for places_W in places_IW]
        columns[name] = pl.Series(rows, dtype=pl.List(pl.String))
    for name, numbers_I in items.numbers.items():
        columns[name] = pl.Series(numbers_I).fill_nan(None)
    for name, seconds_I in items.dates.items():
        columns[name] = pl.Series(seconds_I * 1e6).fill_nan(None).cast(pl.Int64).cast(pl.Datetime("us"))
    return pl.DataFrame(columns)


def check_items(items: Items, num_items: int) -> None:
    """
    Raises:
        DataError: a column is of another length than the log has items.
    """
    rows = {name: len(column.places_IW) for name, column in items.labels.items()}
    rows |= {name: len(column) for columns in items[1:] for name, column in columns.items()}
    for name, count in rows.items():
        if count != num_items:
            raise DataError(f"column {name!r} has {count} rows for a log of {num_items} items")
