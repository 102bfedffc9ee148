"""Raw values to what a ranking model reads, one rule for training and for serving.

It is fitted on the training part, kept beside the prepared rows and inside every bundle, so that a served
model takes the values that people have: ``{"country": "DE", "price": 9.9}``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Float32s, Int32s
from recray.config import ConfigError, from_dict, nearest, to_dict
from recray.data.row_block import RowBlock, SparseIds
from recray.schema import DataError, RowSchema, SparseFeature

ENCODING = "encoding.json"
NO_NUMBER = (
    "",
    "NA",
    "N/A",
    "nan",
    "NaN",
    "null",
    "NULL",
    "None",
    "\\N",
)  # how tables write a missing number
NO_CATEGORY = ("", "\\N")  # "NA" is Namibia
_SPELT = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false", **dict.fromkeys(NO_CATEGORY)}
_FEW = 10_000  # rows
_LARGEST = float(np.finfo(np.float32).max)


class ReadRows(NamedTuple):
    """Raw values, read."""

    rows: RowBlock  # labels are 0
    unknown: dict[str, int]  # of each column of categories that has any: values that have no id


@dataclass(frozen=True, kw_only=True)
class RowEncoding:
    """The columns of a row, in the order of the schema."""

    numbers: tuple[str, ...]
    """Columns of numbers; NaN where missing."""
    categories: tuple[str, ...]
    """Columns of categories."""
    values: tuple[tuple[str, ...], ...]
    """Of each category the values that have ids, in the order of these from 1 on; 0 is any other value."""

    def schema(self) -> RowSchema:
        sizes = zip(self.categories, self.values, strict=True)
        return RowSchema(
            dense=self.numbers,
            sparse=tuple(SparseFeature(name=name, size=len(values) + 1) for name, values in sizes),
        )

    def raw_values(self) -> dict[str, tuple[str, ...]]:
        """What the ids of each category stand for, from 0 on."""
        columns = zip(self.categories, self.values, strict=True)
        return {name: ("any other value", *values) for name, values in columns}

    def encode(self, columns: pl.DataFrame, labels_N: Float32s) -> RowBlock:
        """Rows of text, numbers or truth values.

        Raises:
            ConfigError: a column is missing.
            DataError: a value of a column of numbers is none.
        """
        return replace(self.read(columns).rows, labels_N=labels_N)

    def read(self, columns: pl.DataFrame) -> ReadRows:
        """The same of rows whose labels nobody knows."""
        for name in (*self.numbers, *self.categories):
            if name not in columns.columns:
                raise ConfigError(f"no column {name!r} in the rows{nearest(name, columns.columns)}")
        ids: dict[str, SparseIds] = {}
        unknown: dict[str, int] = {}
        for texts in _as_categories(columns[:, self.categories]):
            ids_N = ids[texts.name] = self._look_up(texts)
            if strange := int((ids_N == 0).sum()) - texts.null_count():
                unknown[texts.name] = strange
        dense_NF = np.empty((len(columns), len(self.numbers)), np.float32)
        for f, numbers in enumerate(_as_numbers(columns[:, self.numbers])):
            dense_NF[:, f] = numbers.to_numpy()
        labels_N = np.zeros(len(columns), np.float32)
        return ReadRows(RowBlock(self.schema(), dense_NF, ids, labels_N), unknown)

    def _look_up(self, texts: pl.Series) -> Int32s:
        known = self._ids[texts.name]
        if len(texts) <= _FEW:  # for a request, Polars would first hash all that is known
            return np.fromiter(map(known.get, texts.to_list(), repeat(0)), np.int32, len(texts))
        values, numbers = pl.Series(list(known), dtype=pl.String), pl.Series(known.values(), dtype=pl.Int32)
        found = texts.replace_strict(values, numbers, default=0, return_dtype=pl.Int32)
        ids_N: Int32s = found.fill_null(0).to_numpy()
        return ids_N

    @cached_property
    def _ids(self) -> dict[str, dict[str | None, int]]:
        """Of each category the id of a text."""
        columns = zip(self.categories, self.values, strict=True)
        return {name: {value: n for n, value in enumerate(values, 1)} for name, values in columns}

    def table(self, rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
        """Rows one by one, as they are asked for, to be encoded; a value that a row does not name is missing.

        Raises:
            ConfigError: a row names a column that the model does not know.
        """
        names = (*self.numbers, *self.categories)
        for unknown in sorted(set().union(*rows) - set(names)):
            raise ConfigError(f"the model knows no column {unknown!r}{nearest(unknown, names)}")
        texts = {name: [_text(row.get(name)) for row in rows] for name in names}
        return pl.DataFrame(texts, schema=dict.fromkeys(names, pl.String))

    def write(self, folder: Path) -> None:
        (folder / ENCODING).write_text(json.dumps(to_dict(self), ensure_ascii=False), encoding="utf-8")


def read_encoding(path: Path) -> RowEncoding:
    """What ``RowEncoding.write`` wrote."""
    return from_dict(RowEncoding, json.loads(path.read_text(encoding="utf-8")))


class NoNumberError(DataError):
    """A value of a column of numbers is none.

    Attributes:
        row: the first, of those that were asked for.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def no_numbers(column: pl.Series) -> pl.Series:
    """Where a value is there and is no number that fits into 32 bits."""
    return column.to_frame().select(_is_no_number(pl.nth(0), column.dtype)).to_series()


def as_categories(column: pl.Series) -> pl.Series:
    """String, null where missing; blanks around a value are no part of it, ``7.0`` is ``7``, True is true."""
    return _as_categories(column.to_frame()).to_series()


def _as_numbers(columns: pl.DataFrame) -> pl.DataFrame:
    """Float32, null-free: NaN where missing.

    Raises:
        NoNumberError: a value is no number, or does not fit into 32 bits.
    """
    for is_bad in columns.select(_is_no_number(*each).any() for each in _by_type(columns)):
        if is_bad.any():
            column = columns[is_bad.name]
            row = int(no_numbers(column).arg_true()[0])
            said = f"{column.name} is {column[row]!r}, which is no number that fits 32 bits"
            raise NoNumberError(said, row)
    floats = (_floats(*each).cast(pl.Float32).fill_null(float("nan")) for each in _by_type(columns))
    return columns.select(floats)[:, columns.columns]


def _as_categories(columns: pl.DataFrame) -> pl.DataFrame:
    """``as_categories`` of each."""
    return columns.select(_category(*each) for each in _by_type(columns))[:, columns.columns]


def _by_type(columns: pl.DataFrame) -> list[tuple[pl.Expr, pl.DataType]]:
    """All columns, those of one type together: a request of one row is the time that it takes to ask."""
    places: dict[pl.DataType, list[int]] = {}
    for place, dtype in enumerate(columns.dtypes):
        places.setdefault(dtype, []).append(place)
    return [(pl.nth(alike), dtype) for dtype, alike in places.items()]


def _is_no_number(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    floats = _floats(value, dtype)
    wide = (floats.is_infinite() | (floats.abs() > _LARGEST)).fill_null(value=False)
    if dtype != pl.String:
        return wide
    missing = value.is_null() | value.str.strip_chars().is_in(NO_NUMBER)
    return (~missing & (floats.is_null() | floats.is_nan())) | wide


def _floats(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    texts = value.str.strip_chars() if dtype == pl.String else value
    return texts.cast(pl.Float64, strict=False)


def _category(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    texts = (value.fill_nan(None) if dtype.is_float() else value).cast(pl.String).str.strip_chars()
    return texts.str.replace(r"^([+-]?\d+)\.0+$", "$1").replace(_SPELT)


def fit_values(column: pl.Series, min_count: int) -> tuple[str, ...]:
    """The values that occur often enough, the most frequent first, equals in the order of their text."""
    counts = as_categories(column).drop_nulls().rename("value").value_counts(name="rows")
    frequent = counts.filter(pl.col("rows") >= min_count).sort("rows", "value", descending=[True, False])
    return tuple(frequent["value"].to_list())


def _text(value: object) -> str | None:
    return None if value is None else str(value)
