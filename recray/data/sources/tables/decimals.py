"""Numbers in text, with a point or a comma before the decimals and perhaps the other between thousands."""

from collections.abc import Iterable
from typing import Literal

import polars as pl

from recray.data.sources.tables.checks import BadValueError, first_row

DecimalMark = Literal[".", ","]
DECIMAL_MARKS: tuple[DecimalMark, ...] = (".", ",")


def other_mark(mark: DecimalMark) -> DecimalMark:
    return "," if mark == "." else "."


def parsed(text: pl.Series, decimal: DecimalMark) -> pl.Series:
    """Float64; the other mark may stand between groups of three digits; null where there is no number."""
    thousands = other_mark(decimal)
    without = text.str.replace_all(thousands, "", literal=True)
    bare = text.zip_with(~_is_grouped(text, thousands, rf"(?:\{decimal}\d*)?"), without)
    if decimal == ",":
        has_point = bare.str.contains(".", literal=True)  # a point that groups nothing
        bare = bare.str.replace(",", ".", literal=True).set(has_point, None)
    return bare.cast(pl.Float64, strict=False)


def _is_grouped(text: pl.Series, thousands: str, behind: str = "") -> pl.Series:
    return text.str.contains(rf"^[+-]?[1-9]\d{{0,2}}(?:\{thousands}\d{{3}})+{behind}$").fill_null(False)


def undecided_row(text: pl.Series, mark: DecimalMark) -> int | None:
    """A row such as ``1.234``, where nothing tells thousands from decimals: every mark has just three digits
    behind it, once."""
    marked = text.str.contains(mark, literal=True).fill_null(False)
    once = text.str.contains(rf"^[+-]?[1-9]\d{{0,2}}\{mark}\d{{3}}$").fill_null(False)
    return first_row(once) if once.any() and not (marked & ~once).any() else None


def undecided(row: int, value: str, what: str, mark: DecimalMark) -> BadValueError:
    other = other_mark(mark)
    return BadValueError(
        row,
        f"{what} {value!r} may be thousands or have decimals, as every one with {mark!r} has three digits "
        f"behind it: decimal={other} reads thousands, decimal={mark} reads decimals",
    )


def _decides(text: pl.Series, mark: DecimalMark) -> bool:
    return bool(text.str.contains(mark, literal=True).any()) and undecided_row(text, mark) is None


def decimal_of(text: pl.Series, what: str, beside: Iterable[pl.Series] = ()) -> DecimalMark:
    """
    Args:
        beside: the same numbers of other files; asked where every mark of these has three digits behind it,
            and only those that use that mark in one way.

    Raises:
        BadValueError: the numbers can be read in two ways.
    """
    has_point, has_comma = (text.str.contains(mark, literal=True).fill_null(False) for mark in ".,")
    both = has_point & has_comma
    if both.any():
        value = str(text[first_row(both)])
        return "," if value.rfind(",") > value.rfind(".") else "."
    if has_point.any() and has_comma.any():
        return "," if _is_grouped(text, ".").filter(has_point).all() else "."
    for mark, present in zip(DECIMAL_MARKS, (has_point, has_comma), strict=True):
        if present.any():
            row = undecided_row(text, mark)
            if row is not None:
                decided = next((other for other in beside if _decides(other, mark)), None)
                if decided is None:
                    raise undecided(row, str(text[row]), what, mark)
                return decimal_of(decided, what)
            if _is_grouped(text, mark).filter(present).all():
                return other_mark(mark)
            return mark
    return "."
