"""What a side column of items or users holds, found out from its values, and its values as that type.

=========  ======================================================  ==============
type       told by                                                 stored as
=========  ======================================================  ==============
category   anything else; names that end in ``id``, ``code``       String
list       ``a|b``                                                 List[String]
path       ``A > B``                                               List[String]: ``A``, ``A > B``
number     numbers throughout                                      Float64; ``year`` Int32
price      the name, or a currency on the numbers                  Float64
date       dates throughout                                        Date
text       the name, or several words that hardly repeat           String
none       objects in objects                                      left out
=========  ======================================================  ==============
"""

import re
from typing import Literal, NamedTuple, get_args

import polars as pl

from recray.config import ConfigError, nearest
from recray.data.sources.roles import plain_name
from recray.data.sources.times import dates_in

SideType = Literal["category", "list", "path", "number", "price", "date", "text", "none"]
_TEXTS = ("title", "name", "text", "description", "productname", "itemname", "summary")
_PRICES = ("price", "cost", "amount", "preis", "listprice", "saleprice", "msrp")
_CODE = re.compile(r"(?:id|code|zip|ean|isbn|sku)$")
_CURRENCY = r"(?i)[€$£¥₹]|\b(?:EUR|USD|GBP|CHF|JPY)\b"
_PATH_MARK = r"\s*>\s*"


class Typed(NamedTuple):
    values: pl.Series
    note: str = ""  # on values that could not be kept


def parse_types(text: str) -> dict[str, SideType]:
    """``brand:category,price:number`` by column.

    Raises:
        ConfigError: a part is not ``column:type``, or there is no such type.
    """
    types: dict[str, SideType] = {}
    for part in filter(None, text.split(",")):
        column, colon, kind = part.strip().rpartition(":")
        if not colon or kind not in get_args(SideType):
            raise ConfigError(
                f"{part!r} is no column:type; types are {', '.join(get_args(SideType))} (none leaves it out)"
            )
        types[column] = kind  # type: ignore[assignment]  # it is one of them
    return types


def require_columns(types: dict[str, SideType], names: list[str], option: str) -> None:
    """
    Raises:
        ConfigError: a type for a column that is not there.
    """
    for column in types:
        if column not in names:
            raise ConfigError(f"{option}: no column {column!r}{nearest(column, names)}")


def type_of(column: pl.Series) -> SideType:
    """From the values, and from the name where they could be several things."""
    name, dtype = plain_name(column.name), column.dtype
    if isinstance(dtype, (pl.List, pl.Array)) and not dtype.inner.is_nested():
        return "list"
    if dtype.is_nested() or dtype == pl.Binary:
        return "none"
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return "date"
    if dtype.is_numeric():
        return "category" if _CODE.search(name) else "price" if name in _PRICES else "number"
    if dtype != pl.String:
        return "category"
    if name in _TEXTS:
        return "text"
    text = stripped(column).drop_nulls()
    return _type_of_text(name, text) if len(text) else "category"


def _type_of_text(name: str, text: pl.Series) -> SideType:
    if name in _PRICES:
        return "price"
    if _CODE.search(name):
        return "category"
    if _prices(text).null_count() == 0:
        return "price" if text.str.contains(_CURRENCY).any() else "number"
    if text.str.contains(r"^\d{1,4}[-./]\d{1,2}[-./]\d{1,4}").all() and not dates_in(text).null_count():
        return "date"
    if int(text.str.contains(r"\S\s*>\s*\S").sum()) * 2 >= len(text):
        return "path"
    num_words = int(text.str.count_matches(r"\S+").sum())
    if num_words >= 4 * len(text) and text.n_unique() > len(text) / 2:
        return "text"
    return "list" if text.str.contains("|", literal=True).any() else "category"


def typed(column: pl.Series, kind: SideType) -> Typed:
    """The values as that type is stored; what is none of it becomes empty, and the note counts it."""
    if kind in ("list", "path"):
        return Typed(_labels(column, by_prefix=kind == "path"))
    if kind in ("number", "price"):
        return _numbers(column)
    if kind == "date":
        return _dates(column)
    return Typed(stripped(_as_text(column)))


def stripped(text: pl.Series) -> pl.Series:
    """Without blanks around; what is empty then is null."""
    found = text.str.strip_chars()
    return found.set(found == "", None)


def _as_text(column: pl.Series) -> pl.Series:
    if column.dtype.is_float() and numbers_whole(column):
        column = column.cast(pl.Int64)
    return column.cast(pl.String)


def numbers_whole(column: pl.Series) -> bool:
    return bool((column == column.floor()).all())


def _labels(column: pl.Series, *, by_prefix: bool) -> pl.Series:
    if isinstance(column.dtype, (pl.List, pl.Array)):
        return column.cast(pl.List(pl.String))
    mark = re.compile(_PATH_MARK if by_prefix else r"\s*\|\s*")
    rows: list[list[str] | None] = []
    for text in stripped(_as_text(column)).to_list():
        parts = [part for part in mark.split(text.strip()) if part] if text else []
        if by_prefix:
            parts = [" > ".join(parts[: n + 1]) for n in range(len(parts))]
        rows.append(list(dict.fromkeys(parts)) or None)
    return pl.Series(column.name, rows, dtype=pl.List(pl.String))


def _numbers(column: pl.Series) -> Typed:
    if not column.dtype.is_numeric():
        text = stripped(_as_text(column))
        values = _prices(text)
        lost = text.filter(values.is_null() & text.is_not_null())
    else:
        values, lost = column.cast(pl.Float64).fill_nan(None), pl.Series([], dtype=pl.String)
    if plain_name(column.name) == "year" and numbers_whole(values.drop_nulls()):
        values = values.cast(pl.Int32, strict=False)
    return Typed(values.alias(column.name), lost_note(column.name, lost))


def lost_note(name: str, lost: pl.Series, wanted: str = "a number") -> str:
    """What became of texts that are not what their column holds; nothing where there are none."""
    if not len(lost):
        return ""
    shown = ", ".join(repr(text) for text in lost.unique().sort().head(3))
    return f"{name}: {len(lost):,} values are not {wanted} ({shown}) and were left empty"


def _prices(text: pl.Series) -> pl.Series:
    """Numbers in text: ``1,234.50``, ``1.234,50 €``, ``$9.99``, ``9,99``; null where there is none."""
    bare = text.str.replace_all(_CURRENCY, "").str.replace_all(r"[\s'’]", "")
    both = bare.str.contains(",", literal=True) & bare.str.contains(".", literal=True)
    comma_last = bare.str.contains(r",\d*$")
    grouped = bare.str.contains(r"^[+-]?\d{1,3}(?:,\d{3})+$") | bare.str.contains(
        r"^[+-]?\d{1,3}(?:\.\d{3}){2,}$"
    )
    frame = pl.DataFrame({"bare": bare, "both": both, "comma_last": comma_last, "grouped": grouped})
    value = pl.col("bare")
    without = value.str.replace_all(r"[.,]", "")
    english = value.str.replace_all(",", "", literal=True)
    german = value.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    number = (
        pl.when("grouped")
        .then(without)
        .when(pl.col("both") & ~pl.col("comma_last"))
        .then(english)
        .when("comma_last")
        .then(german)
        .otherwise(value)
        .cast(pl.Float64, strict=False)
    )
    return frame.select(pl.when(number.is_finite()).then(number).alias(text.name)).to_series()


def _dates(column: pl.Series) -> Typed:
    if column.dtype == pl.Date:
        return Typed(column)
    if isinstance(column.dtype, pl.Datetime):
        return Typed(column.dt.date())
    text = stripped(_as_text(column))
    days = dates_in(text)
    return Typed(
        days.alias(column.name), lost_note(column.name, text.filter(days.is_null()).drop_nulls(), "a date")
    )
