"""What a column of a side table says, by its type and values: one answer for models, rankers and content."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import polars as pl

TEXTS = ("title", "text", "description")
AVAILABILITY = ("available", "in_stock")
"""Whether an item can be had now, where ``availability`` reads them: a rule of serving, and nothing that
taste goes by."""
KEYS = ("raw_id", "train_count")
"""Names the row; and what a bundle notes beside its items."""

Kind = Literal["words", "labels", "year", "number", "date"]
_MOST_DISTINCT = 0.5  # a label of (almost) every row's own says no more than the id itself
_WORDS_OF_A_TEXT = 4.0  # on average; codes and names have fewer
_WORD = re.compile(r"[^\W_]{2,}")
_TRAILING_YEAR = re.compile(r"\s*\(\d{4}\)\s*$")


def kind_of(column: pl.Series) -> Kind | None:
    """How a column is read; None for one that tells nothing, such as names of single rows.

    ``words``: ``title``, ``text``, ``description``, and other strings that are long and mostly differ.
    ``labels``: lists of strings (genres, category paths), other strings, Booleans. ``number``: integers
    and floats, but the ``year``.
    """
    if column.name in KEYS or column.null_count() == len(column):
        return None
    if column.name in AVAILABILITY and availability(column) is not None:
        return None
    dtype = column.dtype
    if column.name in TEXTS:
        return "words" if dtype == pl.String else None
    if isinstance(dtype, pl.List):
        return "labels" if dtype.inner == pl.String else None
    if dtype == pl.String:
        return "labels" if repeats(column) else "words" if _is_text(column) else None
    if dtype == pl.Boolean:
        return None if column.drop_nulls().n_unique() < 2 else "labels"
    if dtype.is_numeric():
        return "year" if column.name == "year" else "number"
    return "date" if isinstance(dtype, (pl.Date, pl.Datetime)) else None


def availability(column: pl.Series) -> pl.Series | None:
    """Whether each item can be had, null where nothing is said: Booleans, and counts where above 0.

    None for a column that says neither.
    """
    if column.dtype == pl.Boolean:
        return column
    if not column.dtype.is_numeric():
        return None
    return (column.fill_nan(None) if column.dtype.is_float() else column) > 0


def repeats(column: pl.Series) -> bool:
    """Whether values come back often enough to be labels."""
    return column.drop_nulls().n_unique() <= _MOST_DISTINCT * len(column)


def text_columns(table: pl.DataFrame) -> tuple[str, ...]:
    return tuple(column.name for column in table if kind_of(column) == "words")


def words(text: str) -> list[str]:
    """Words of two letters or more, in lower case; the year in brackets behind a title is none."""
    return _WORD.findall(_TRAILING_YEAR.sub("", text).lower())


def labels(column: pl.Series) -> Sequence[Iterable[str]]:
    """The labels of every row of such a column; none where it is empty."""
    if isinstance(column.dtype, pl.List):
        return column.list.drop_nulls().fill_null([]).to_list()
    return [() if value is None else (str(value),) for value in column.to_list()]


def unix_seconds(column: pl.Series) -> pl.Series:
    """Of a column of dates, Float64; a date is the midnight that it begins with, UTC."""
    return column.dt.epoch("us").cast(pl.Float64) / 1e6


def _is_text(column: pl.Series) -> bool:
    mean = column.drop_nulls().str.count_matches(r"\w{2,}").mean()
    return isinstance(mean, float) and mean >= _WORDS_OF_A_TEXT
