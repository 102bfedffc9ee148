"""Columns of ids and of ratings as people write them, tidied, with a word on all that was changed."""

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from recray.data.sources.tables.checks import BadValueError, first_row, rating_problem
from recray.data.sources.tables.decimals import DecimalMark, decimal_of, other_mark, parsed

_FLOAT_LIMITS: dict[pl.DataType, int] = {
    pl.Float16(): 2**11,
    pl.Float32(): 2**24,
}  # from which on whole numbers fall together
_DOUBTFUL = r"(?i)^(?:null|none|nan|n/a|\\n)$"  # as databases and libraries write what is not there


class Column(NamedTuple):
    values: pl.Series
    notes: tuple[str, ...] = ()


def plain_ids(values: pl.Series, role: str) -> pl.Series:
    """Ids of one file as integers of any width or as String, so that those of all files can be one column.

    Raises:
        BadValueError: the type holds no ids, or holds numbers that it does not tell apart.
    """
    dtype = values.dtype
    if dtype.is_float() or dtype.is_decimal():
        return _whole_ids(values, role)
    if dtype.is_integer() or dtype in (pl.Null, pl.String):
        return values
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return values.cast(pl.String)
    raise _wrong_type(dtype, role, "whole numbers or text")


def _whole_ids(values: pl.Series, role: str) -> pl.Series:
    """Floats only as far as each whole number has its own: beyond, two ids may have become one."""
    dtype = values.dtype
    if dtype.is_decimal():
        whole = values.cast(pl.Int128)
        if (whole.cast(dtype) != values).any():
            raise _wrong_type(dtype, role, "whole numbers or text")
        return whole
    values = values.fill_nan(None)
    if not (values == values.floor()).all():
        raise _wrong_type(dtype, role, "whole numbers or text")
    limit = _FLOAT_LIMITS.get(dtype, 2**53)
    unsure = values.abs() >= limit
    if unsure.any():
        row = first_row(unsure)
        raise BadValueError(
            row,
            f"{role} {values[row]:.0f} has type {dtype}, in which numbers from {limit:,} on are not told "
            "apart: write the ids as whole numbers (Int64) or as text where they are still exact",
        )
    return values.cast(pl.Int64)


def ids_of(values: pl.Series, role: str, *, as_text: bool = False) -> Column:
    """Int64 where every id is a plain number, else String; empty ones are null.

    Blanks around an id are stripped, and ``7.0`` is ``7`` unless the column also has numbers such as ``7.5``.

    Raises:
        BadValueError: the type holds no ids, or a few numbers among numbers do not fit into 64 bits.
    """
    values = plain_ids(values, role)
    if values.dtype.is_integer():
        numbers = values.cast(pl.Int64, strict=False)
        is_wide = numbers.null_count() > values.null_count()
        return Column(values.cast(pl.String) if is_wide or as_text else numbers)
    tidy = tidy_ids(values.cast(pl.String), role, as_text=as_text)
    if as_text:
        return tidy
    numbers = numbers_where_all_are(tidy.values)
    if numbers.dtype == pl.String:
        _refuse_overflow(numbers, role)
    return Column(numbers, tidy.notes)


def _wrong_type(dtype: pl.DataType, role: str, wanted: str) -> BadValueError:
    return BadValueError(None, f"has type {dtype}, but {role}s need {wanted}: convert it")


def tidy_ids(ids: pl.Series, role: str, *, as_text: bool = False) -> Column:
    """Text ids without blanks around them and, where that loses nothing, ``7`` for ``7.0``.

    Words such as ``NULL`` are ids like any other, and said: somebody may be called so.
    """
    notes = []
    stripped = ids.str.strip_chars()
    changed = int((stripped != ids).sum())
    if changed:
        notes.append(f"blanks around {changed:,} {role} ids were stripped")
    if (empty := stripped == "").any():
        stripped = stripped.set(empty, None)
    if (doubtful := stripped.str.contains(_DOUBTFUL).fill_null(value=False)).any():
        words = ", ".join(stripped.filter(doubtful).unique().sort().head(3))
        notes.append(
            f"{int(doubtful.sum()):,} {role} ids are words such as {words}: they are taken as ids; clear "
            "them in the file if they stand for nobody"
        )
    if not as_text and stripped.str.contains(".0", literal=True).any():
        whole = stripped.str.contains(r"^[+-]?\d+\.0+$")
        if whole.any() and not stripped.str.contains(r"^[+-]?\d+\.\d*[1-9]\d*$").any():
            stripped = stripped.str.replace(r"^([+-]?\d+)\.0+$", "${1}")
            notes.append(f"{int(whole.sum()):,} {role} ids are written like 7.0; they are read as 7")
    return Column(stripped, tuple(notes))


def numbers_where_all_are(ids: pl.Series) -> pl.Series:
    """Text ids as Int64 where every one is the plain form of a number ("7", not "07" or "7.0")."""
    numbers = ids.cast(pl.Int64, strict=False)
    if numbers.null_count() > ids.null_count() or (numbers.cast(pl.String) != ids).any():
        return ids
    return numbers


def _refuse_overflow(ids: pl.Series, role: str) -> None:
    """Numbers beyond 64 bits among numbers: most often a float or an overflow in an export."""
    distinct = ids.drop_nulls().unique()
    wide = distinct.filter(
        distinct.str.contains(r"^[+-]?\d{19,}$") & distinct.cast(pl.Int64, strict=False).is_null()
    )
    others = distinct.filter(~distinct.is_in(wide.implode()))
    if len(wide) and len(others) and others.str.contains(r"^[+-]?\d+$").all():
        raise BadValueError(
            first_row(ids == wide[0]),
            f"{role} {wide[0]} does not fit into 64 bits while the other ids do: correct it, or read the "
            "ids with ids='text'",
        )


def ratings_of(
    values: pl.Series, decimal: DecimalMark | None = None, beside: Iterable[pl.Series] = ()
) -> Column:
    """Finite Float32, from numbers or text, with a decimal point or (all of them) a decimal comma.

    Args:
        decimal: the mark before the decimals of text; None: found out.
        beside: the ratings of other files, asked where these do not tell the mark.

    Raises:
        BadValueError: a value that is missing, no number, or does not fit; or nothing tells thousands
            from decimals.
    """
    notes: tuple[str, ...] = ()
    if values.dtype == pl.String:
        values, notes = _numbers_in(values, decimal, beside)
    elif not values.dtype.is_numeric() and values.dtype != pl.Boolean:
        raise _wrong_type(values.dtype, "rating", "numbers")
    numbers = values.cast(pl.Float64)
    if numbers.null_count():
        raise BadValueError(first_row(numbers.is_null()), "rating is empty: drop the row or fill it in")
    narrow = numbers.cast(pl.Float32)
    if not narrow.is_finite().all():
        row = first_row(~narrow.is_finite())
        raise BadValueError(row, rating_problem(float(numbers[row])) or "is no rating")
    return Column(narrow, notes)


def _numbers_in(values: pl.Series, decimal: DecimalMark | None, beside: Iterable[pl.Series]) -> Column:
    text = values.str.strip_chars()
    mark = decimal or decimal_of(text, "rating", map(_with_marks, beside))
    numbers = parsed(text, mark)
    bad = numbers.is_null() & text.is_not_null() & (text != "")
    if bad.any():
        row = first_row(bad)
        raise BadValueError(row, f"rating {text[row]!r} is not a number: write it with a decimal point")
    notes = []
    if mark == "," and text.str.contains(",", literal=True).any():
        notes.append("ratings are written with a decimal comma")
    thousands = other_mark(mark)
    if text.str.contains(thousands, literal=True).any():
        notes.append(f"{thousands!r} in ratings stands between thousands")
    return Column(numbers, tuple(notes))


def _with_marks(values: pl.Series) -> pl.Series:
    """Of numbers, what a text of them would have marks in."""
    if values.dtype.is_float():
        values = values.filter(values != values.floor())
    return values.cast(pl.String)
