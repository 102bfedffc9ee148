"""What the columns of a table of clicks are for: label, time, and numbers or categories by what they hold."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from recray.config import nearest
from recray.data.row_encoding import NO_NUMBER, as_categories, no_numbers
from recray.data.sources.clicks.labels import FIGURES, LABELS, plain, require_one
from recray.data.sources.clicks.times import names_time, time_columns
from recray.data.sources.tables.checks import BadValueError
from recray.data.sources.tables.decimals import DecimalMark, decimal_of, parsed
from recray.data.sources.tables.stored_table import StoredTable
from recray.data.sources.tables.times import TimeUnit
from recray.schema import DataError

log = logging.getLogger(__name__)
TIMES = ("timestamp", "time", "ts", "datetime", "eventtime", "date", "unixtime")
RATINGS = ("rating", "stars", "score")
_ID = r"(?i)(^|[_\s])(id|code|zip)$|[a-z](Id|ID)$"  # numbers that name things
_MOSTLY = 0.95  # a column with so many numbers was meant to hold nothing else


class Said(NamedTuple):
    """What a person said of columns; None: to be found out."""

    label: str | None
    time: str | None
    categories: Sequence[str]
    numbers: Sequence[str]
    ignore: Sequence[str]


class Columns(NamedTuple):
    label: str
    time: str | None
    numbers: tuple[str, ...]
    categories: tuple[str, ...]

    def text(self) -> str:
        numbers, categories = (", ".join(names) or "none" for names in (self.numbers, self.categories))
        return (
            f"label: {self.label}; time: {self.time or 'none'}; numbers: {numbers}; categories: {categories}"
        )


def columns_of(
    table: StoredTable,
    said: Said,
    unit: TimeUnit | None,
    form: str | None,
    decimal: DecimalMark | None = None,
) -> Columns:
    """
    Raises:
        DataError: a column is missing, or holds neither numbers nor categories.
    """
    names = table.names
    label = said.label or called(LABELS, names)
    if label is None:
        raise DataError(
            f"{table.label}: no column says what was a click (it has {', '.join(names)}): name it with label="
        )
    if said.label is None:
        require_one(label, names, table.label)
    listed = (*said.categories, *said.numbers, *said.ignore)
    free = [name for name in names if name != label and name not in listed]
    time = said.time or called(TIMES, free) or _guessed_time(table, free, unit, form)
    for name in (label, *filter(None, [time]), *listed):
        if name not in names:
            raise DataError(f"{table.label}: no column {name!r}{nearest(name, names)}")
    # A column without a name is the row numbers of whoever wrote the file.
    features = [name for name in names if name not in (label, time, "", *said.ignore)]
    if not features:
        raise DataError(f"{table.label}: no column is left for a feature beside {label}")
    numbers = tuple(
        name
        for name in features
        if name in said.numbers
        or (
            name not in said.categories
            and _holds_numbers(table, with_points(table, table.column(name), decimal))
        )
    )
    return Columns(label, time, numbers, tuple(name for name in features if name not in numbers))


def called(usual: Sequence[str], names: Sequence[str]) -> str | None:
    """The column that is called as such columns usually are."""
    by_plain = {plain(name): name for name in reversed(names)}
    return next((by_plain[each] for each in usual if each in by_plain), None)


def _guessed_time(
    table: StoredTable, free: Sequence[str], unit: TimeUnit | None, form: str | None
) -> str | None:
    """The only column of times that is named as one; says which others could be meant."""
    times = time_columns(table.columns(free), unit, form)
    named = [name for name in times if names_time(name)]
    if len(named) == 1:
        return named[0]
    if times:
        log.warning("%s: %s could be the time of a row: name it with time=", table.label, " or ".join(times))
    return None


def mark_of(table: StoredTable, column: pl.Series, decimal: DecimalMark | None) -> DecimalMark | None:
    """The mark before the decimals of numbers that are written with commas; None of anything else.

    Raises:
        DataError: nothing tells thousands from decimals; names the line.
    """
    if column.dtype != pl.String:
        return None
    texts = _stripped(column)
    has_commas = texts.str.contains(",", literal=True).any()
    if not has_commas or not texts.str.contains(r"^[+-]?\d[\d.,]*$").all():
        return None
    try:
        mark = decimal or decimal_of(texts, column.name)
    except BadValueError as bad:
        way_out = f"categories={column.name} takes them as they are"
        raise DataError(f"{table.where(bad.row or 0)}: {bad.text}; {way_out}") from None
    return mark if parsed(texts, mark).null_count() == texts.null_count() else None


def with_points(table: StoredTable, column: pl.Series, decimal: DecimalMark | None) -> pl.Series:
    """Numbers that are written with commas as Float64, anything else as it is.

    Raises:
        DataError: nothing tells thousands from decimals; names the line.
    """
    mark = mark_of(table, column, decimal)
    return as_written(column, mark) if mark else column


def as_written(column: pl.Series, mark: DecimalMark) -> pl.Series:
    return parsed(_stripped(column), mark)


def _stripped(column: pl.Series) -> pl.Series:
    texts = column.str.strip_chars()
    return texts.set(texts == "", None)


def _holds_numbers(table: StoredTable, column: pl.Series) -> bool:
    """Whether a column is one of numbers, of which most differ in more than a name.

    Raises:
        DataError: nearly all of its values are numbers and some are not, or its type is no feature's.
    """
    dtype = column.dtype
    if dtype.is_nested() or dtype.is_temporal() or dtype == pl.Binary:
        raise DataError(
            f"{table.label}: column {column.name!r} has type {dtype}, which is neither number nor category: "
            f"leave it out with ignore={column.name}, or name it with time= if it is the time"
        )
    named = pl.Series([column.name]).str.contains(_ID)[0]
    if dtype.is_numeric():
        return not (
            named and (dtype.is_integer() or (column.drop_nulls() == column.drop_nulls().round()).all())
        )
    if dtype != pl.String:
        return False
    bad = no_numbers(column)
    present = len(column) - int(column.str.strip_chars().is_in(NO_NUMBER).fill_null(value=True).sum())
    if not present or bad.sum() > (1 - _MOSTLY) * present:
        return False
    table.refuse(bad, column, f"nearly all others are numbers: correct it, or say categories={column.name}")
    whole = column.str.contains(r"^\s*([+-]?\d+(\.0+)?)?\s*$").fill_null(value=True).all()
    return not (named and whole)


def require_numbers(
    table: StoredTable, names: Sequence[str], decimal: DecimalMark | None
) -> dict[str, DecimalMark]:
    """Of the columns that are written with commas, the mark before the decimals.

    Raises:
        DataError: the line of a value that is no number.
    """
    marks: dict[str, DecimalMark] = {}
    for name in names:
        column = table.column(name)
        mark = mark_of(table, column, decimal)
        if mark:
            marks[name] = mark
            column = as_written(column, mark)
        way_out = f"which is no number that fits 32 bits: correct it, or say categories={name}"
        table.refuse(no_numbers(column), column, way_out)
    return marks


def labels_of(
    table: StoredTable, name: str, threshold: float | None, decimal: DecimalMark | None
) -> pl.Series:
    """Float32, 0 or 1.

    Raises:
        DataError: the line of a value that is neither.
    """
    column = with_points(table, table.column(name), decimal)
    texts = as_categories(column).str.to_lowercase().replace(FIGURES)
    labels = texts.cast(pl.Float64, strict=False)
    if threshold is not None:
        table.refuse(labels.is_null() | ~labels.is_finite(), column, "and a label must be a number")
        labels = (labels >= threshold).cast(pl.Float64)
    way_out = "and a label is 0 or 1: correct it, or name another column with label="
    if labels.count() == texts.count():
        way_out = (
            "and a label is 0 or 1: correct it, or say from which value on it is a click with threshold="
        )
    table.refuse(~labels.is_in([0.0, 1.0]).fill_null(value=False), column, way_out)
    return labels.cast(pl.Float32)
