"""Raw values to what a ranking model reads, one rule for training and for serving.

It is fitted on the training part, kept beside the prepared rows and inside every bundle, so that a served
model takes the values that people have: ``{"country": "DE", "price": 9.9}``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recray.arrays import Float32s
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
_TRUTH = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
_LARGEST = float(np.finfo(np.float32).max)


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
        for name in (*self.numbers, *self.categories):
            if name not in columns.columns:
                raise ConfigError(f"no column {name!r} in the rows{nearest(name, columns.columns)}")
        dense_NF = np.empty((len(columns), len(self.numbers)), np.float32)
        for f, name in enumerate(self.numbers):
            dense_NF[:, f] = as_numbers(columns[name]).to_numpy()
        ids: dict[str, SparseIds] = {}
        for name, values in zip(self.categories, self.values, strict=True):
            numbers = pl.Series(range(1, len(values) + 1), dtype=pl.Int32)
            texts = as_categories(columns[name])
            known = texts.replace_strict(pl.Series(values, dtype=pl.String), numbers, default=0)
            ids[name] = known.fill_null(0).cast(pl.Int32).to_numpy()
        return RowBlock(self.schema(), dense_NF, ids, labels_N)

    def of_values(self, rows: Sequence[Mapping[str, object]]) -> RowBlock:
        """The same of rows one by one, as they are asked for; a value that a row does not name is missing.

        Raises:
            ConfigError: a row names a column that the model does not know.
            DataError: a value of a column of numbers is none.
        """
        names = (*self.numbers, *self.categories)
        for unknown in sorted({key for row in rows for key in row} - set(names)):
            raise ConfigError(f"the model knows no column {unknown!r}{nearest(unknown, names)}")
        texts = {name: [_text(row.get(name)) for row in rows] for name in names}
        return self.encode(
            pl.DataFrame(texts, schema=dict.fromkeys(names, pl.String)), np.zeros(len(rows), np.float32)
        )

    def write(self, folder: Path) -> None:
        (folder / ENCODING).write_text(json.dumps(to_dict(self), ensure_ascii=False), encoding="utf-8")


def read_encoding(path: Path) -> RowEncoding:
    """What ``RowEncoding.write`` wrote."""
    return from_dict(RowEncoding, json.loads(path.read_text(encoding="utf-8")))


def as_numbers(column: pl.Series) -> pl.Series:
    """Float32, null-free: NaN where missing.

    Raises:
        DataError: a value is no number, or does not fit into 32 bits; names the first.
    """
    bad = no_numbers(column)
    if bad.any():
        raise DataError(f"{column.name} is {column.filter(bad)[0]!r}, which is no number that fits 32 bits")
    return _floats(column).cast(pl.Float32).fill_null(float("nan"))


def no_numbers(column: pl.Series) -> pl.Series:
    """Where a value is there and is no number that fits into 32 bits."""
    floats = _floats(column)
    wide = floats.is_infinite() | (floats.abs() > _LARGEST)
    if column.dtype != pl.String:
        return wide.fill_null(value=False)
    missing = column.is_null() | column.str.strip_chars().is_in(NO_NUMBER)
    return (~missing & (floats.is_null() | floats.is_nan())) | wide.fill_null(value=False)


def _floats(column: pl.Series) -> pl.Series:
    texts = column.str.strip_chars() if column.dtype == pl.String else column
    return texts.cast(pl.Float64, strict=False)


def as_categories(column: pl.Series) -> pl.Series:
    """String, null where missing; blanks around a value are no part of it, ``7.0`` is ``7``, True is true."""
    texts = (column.fill_nan(None) if column.dtype.is_float() else column).cast(pl.String).str.strip_chars()
    texts = texts.str.replace(r"^([+-]?\d+)\.0+$", "$1").replace(_TRUTH)
    return texts.set(texts.is_in(NO_CATEGORY).fill_null(value=False), None)


def fit_values(column: pl.Series, min_count: int) -> tuple[str, ...]:
    """The values that occur often enough, the most frequent first, equals in the order of their text."""
    counts = as_categories(column).drop_nulls().rename("value").value_counts(name="rows")
    frequent = counts.filter(pl.col("rows") >= min_count).sort("rows", "value", descending=[True, False])
    return tuple(frequent["value"].to_list())


def _text(value: object) -> str | None:
    return None if value is None else str(value)
