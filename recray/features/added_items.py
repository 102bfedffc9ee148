"""What ranking features know of items that were added to a catalogue, or changed, after a log was made.

Columns and their kinds stay those of the log, so that a ranker finds what it was trained with.

Shapes: I items in all, M of them added or changed.
"""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import polars as pl

from recray.arrays import Float32s, Float64s, Int64s
from recray.features.columns import labels, unix_seconds
from recray.features.items import GENRES, MAX_GENRES, Items, Labels, single

A = TypeVar("A", Float32s, Float64s)


def with_rows(items: Items, num_items: int, rows_M: Int64s, table: pl.DataFrame) -> Items:
    """
    Args:
        num_items: in all, with those that are added.
        rows_M: where the rows of ``table`` stand; every added item is among them.
        table: their side columns; a column that it lacks is missing there.
    """

    def numbers(name: str) -> Float64s:
        return _floats(table[name].cast(pl.Float64, strict=False)) if name in table.columns else _none(table)

    def dates(name: str) -> Float64s:
        has_dates = name in table.columns and table.schema[name].is_temporal()
        return _floats(unix_seconds(table[name])) if has_dates else _none(table)

    return Items(
        {name: _with_labels(name, column, num_items, rows_M, table) for name, column in items.labels.items()},
        {
            name: _placed(values_I, num_items, rows_M, single(numbers(name)))
            for name, values_I in items.numbers.items()
        },
        {name: _placed(values_I, num_items, rows_M, dates(name)) for name, values_I in items.dates.items()},
    )


def _floats(column: pl.Series) -> Float64s:
    values: Float64s = column.fill_null(np.nan).to_numpy().astype(np.float64)
    return np.where(np.isinf(values), np.nan, values)


def _none(table: pl.DataFrame) -> Float64s:
    return np.full(len(table), np.nan)


def _placed(values_I: A, num_items: int, rows_M: Int64s, values_M: A) -> A:
    placed_I = np.full(num_items, np.nan, values_I.dtype)
    placed_I[: len(values_I)] = values_I
    placed_I[rows_M] = values_M
    return placed_I


def _with_labels(name: str, column: Labels, num_items: int, rows_M: Int64s, table: pl.DataFrame) -> Labels:
    """Labels that none of the items had before are numbered behind the others; of genres, up to as many as
    are kept of any catalogue."""
    found = labels(table[name]) if name in table.columns else [()] * len(table)
    numbers = {label: place for place, label in enumerate(column.names, start=1)}
    most = MAX_GENRES if name == GENRES else None
    places = [_places(dict.fromkeys(row), numbers, most) for row in found]
    width = max(column.places_IW.shape[1], max(map(len, places), default=0))
    places_IW = np.zeros((num_items, width), np.int32)
    places_IW[: len(column.places_IW), : column.places_IW.shape[1]] = column.places_IW
    places_IW[rows_M] = 0
    for row, found_W in zip(rows_M.tolist(), places, strict=True):
        places_IW[row, : len(found_W)] = found_W
    return Labels(places_IW, tuple(numbers))


def _places(row: Mapping[str, None], numbers: dict[str, int], most: int | None) -> list[int]:
    for label in row:
        if label not in numbers and (most is None or len(numbers) < most):
            numbers[label] = len(numbers) + 1
    return [numbers[label] for label in row if label in numbers]
