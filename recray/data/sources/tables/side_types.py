"""What a side column of items or users holds, found out from its values, and its values as that type.

=========  ======================================================  ==============
type       told by                                                 stored as
=========  ======================================================  ==============
category   anything else; names that end in ``id``, ``code``       String
list       ``a|b``, ``['a', 'b']``                                 List[String]
path       ``A > B``                                               List[String]: ``A``, ``A > B``
boolean    true and false, yes and no, also in German, as Excel    Boolean
           writes them; by the name 0/1, y/n too
number     numbers throughout                                      Float64; ``year`` Int32
price      the name, or a currency on the numbers                  Float64
date       dates throughout                                        Date
text       the name, or several words that hardly repeat           String
none       lists of objects, objects in objects, bytes             left out
=========  ======================================================  ==============
"""

import ast
import re
from typing import Literal, NamedTuple, get_args

import polars as pl

from recray.config import ConfigError, nearest
from recray.data.sources.tables.decimals import DecimalMark, parsed, undecided, undecided_row
from recray.data.sources.tables.joined import as_text
from recray.data.sources.tables.roles import plain_name
from recray.data.sources.tables.times import dates_in

SideType = Literal["category", "list", "path", "boolean", "number", "price", "date", "text", "none"]
_TEXTS = ("title", "name", "text", "description", "productname", "itemname", "summary")
_PRICES = ("price", "cost", "amount", "preis", "listprice", "saleprice", "msrp")
_CODE = re.compile(r"(?:id|code|zip|ean|isbn|sku)$")
_CURRENCY = r"(?i)[€$£¥₹]|\b(?:EUR|USD|GBP|CHF|JPY)\b"
_PATH_MARK = r"\s*>\s*"
_WORDS = {True: ("true", "yes", "ja", "wahr"), False: ("false", "no", "nein", "falsch")}
_PLAIN_TRUTH = {word: is_true for is_true, words in _WORDS.items() for word in words}
TRUTH = {**_PLAIN_TRUTH, "1": True, "0": False, "y": True, "n": False, "t": True, "f": False}
"""Words in small letters; the short ones where nothing else can be meant."""
_FLAG = re.compile(r"(?i)(?:available|in[_ -]?stock|(?:is|has)[_ -].*)$")  # columns where those are meant
_BRACKETS = r"^\[.*\]$"


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
    name, dtype = plain_name(column.name.rpartition(".")[2]), column.dtype
    if isinstance(dtype, (pl.List, pl.Array)) and not dtype.inner.is_nested():
        return "list"
    if dtype.is_nested() or dtype == pl.Binary:
        return "none"
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return "date"
    if dtype == pl.Boolean:
        return "boolean"
    text = stripped(as_text(column)).drop_nulls()
    if _FLAG.match(column.name) and text.str.to_lowercase().is_in([*TRUTH]).all():
        return "boolean"
    if dtype.is_numeric():
        return "category" if _CODE.search(name) else "price" if name in _PRICES else "number"
    if dtype != pl.String:
        return "category"
    if name in _TEXTS:
        return "text"
    return _type_of_text(name, text) if len(text) else "category"


def _type_of_text(name: str, text: pl.Series) -> SideType:
    if name in _PRICES:
        return "price"
    if _CODE.search(name):
        return "category"
    if text.str.to_lowercase().is_in([*_PLAIN_TRUTH]).all():
        return "boolean"
    if text.str.contains(_BRACKETS).all():
        return "list"
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


def typed(column: pl.Series, kind: SideType, decimal: DecimalMark | None = None) -> Typed:
    """The values as that type is stored; what is none of it becomes empty, and the note counts it.

    Raises:
        BadValueError: prices of which nothing tells thousands from decimals.
    """
    if kind in ("list", "path"):
        return Typed(_labels(column, by_prefix=kind == "path"))
    if kind in ("number", "price"):
        return _numbers(column, decimal, is_price=kind == "price")
    if kind == "boolean":
        return _booleans(column)
    if kind == "date":
        return _dates(column)
    return Typed(stripped(as_text(column)))


def stripped(text: pl.Series) -> pl.Series:
    """Without blanks around; what is empty then is null."""
    found = text.str.strip_chars()
    return found.set(found == "", None)


def numbers_whole(column: pl.Series) -> bool:
    return bool((column == column.floor()).all())


def _labels(column: pl.Series, *, by_prefix: bool) -> pl.Series:
    if isinstance(column.dtype, (pl.List, pl.Array)):
        return column.cast(pl.List(pl.String))
    texts = stripped(as_text(column))
    mark = _PATH_MARK if by_prefix else rf"\s*{re.escape(_list_mark(texts))}\s*"
    rows: list[list[str] | None] = []
    for text in texts.to_list():
        if not by_prefix and text and re.match(_BRACKETS, text):
            parts = _in_brackets(text)
        else:
            parts = [part for part in re.split(mark, text.strip()) if part] if text else []
        if by_prefix:
            parts = [" > ".join(parts[: n + 1]) for n in range(len(parts))]
        rows.append(list(dict.fromkeys(parts)) or None)
    return pl.Series(column.name, rows, dtype=pl.List(pl.String))


def _list_mark(texts: pl.Series) -> str:
    """What stands between labels: a bar, or where there is none a semicolon, or a comma."""
    return next((mark for mark in "|;" if texts.str.contains(mark, literal=True).any()), ",")


def _in_brackets(text: str) -> list[str]:
    """The labels of a list as Python and JSON write it."""
    try:
        return [str(part).strip() for part in ast.literal_eval(text)]
    except (ValueError, SyntaxError):  # without quotes, or with JSON's null
        parts = (part.strip().strip("'\"") for part in text[1:-1].split(","))
        return [part for part in parts if part]


def _booleans(column: pl.Series) -> Typed:
    if column.dtype == pl.Boolean:
        return Typed(column)
    text = stripped(as_text(column))
    values = text.str.to_lowercase().replace_strict(
        [*TRUTH], [*TRUTH.values()], default=None, return_dtype=pl.Boolean
    )
    lost = text.filter(values.is_null() & text.is_not_null())
    return Typed(values.alias(column.name), lost_note(column.name, lost, "true or false"))


def _numbers(column: pl.Series, decimal: DecimalMark | None, *, is_price: bool) -> Typed:
    if not column.dtype.is_numeric():
        text = stripped(as_text(column))
        row = undecided_row(_bare(text), ".") if is_price and decimal is None else None
        if row is not None:
            raise undecided(row, str(text[row]), "price", ".")
        values = _prices(text) if decimal is None else parsed(_bare(text), decimal)
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


def _bare(text: pl.Series) -> pl.Series:
    """Without currencies, blanks and the apostrophes of Swiss thousands."""
    return text.str.replace_all(_CURRENCY, "").str.replace_all(r"[\s'’]", "")


def _prices(text: pl.Series) -> pl.Series:
    """Numbers in text: ``1,234.50``, ``1.234,50 €``, ``$9.99``, ``9,99``; null where there is none."""
    bare = _bare(text)
    both = bare.str.contains(",", literal=True) & bare.str.contains(".", literal=True)
    comma_last = bare.str.contains(r",\d*$")
    # 5.000 beside 1.299,00 or 1.234.567 is five thousand.
    groups = "+" if bare.str.contains(r"\.\d{3}[.,]\d").any() else "{2,}"
    grouped = bare.str.contains(r"^[+-]?\d{1,3}(?:,\d{3})+$") | bare.str.contains(
        rf"^[+-]?[1-9]\d{{0,2}}(?:\.\d{{3}}){groups}$"
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
    text = stripped(as_text(column))
    days = dates_in(text)
    return Typed(
        days.alias(column.name), lost_note(column.name, text.filter(days.is_null()).drop_nulls(), "a date")
    )
