"""Amazon Reviews 2014: reviews (5-core or all), bare ratings, and what the items say about themselves.

McAuley et al., Image-Based Recommendations on Styles and Substitutes, SIGIR 2015. The files of a
category such as ``Beauty``, packed with gzip or not:

* ``reviews_Beauty_5.json.gz``: one review per line; ``_5`` means that users and items have 5 at least;
* ``ratings_Beauty.csv``: user, item, rating, unix seconds, without a header;
* ``meta_Beauty.json.gz``: one item per line.

``amazon_lines.py`` reads the lines, whether they are JSON or Python literals.
"""

import hashlib
import html
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from recray import paths
from recray.config import ConfigError, nearest
from recray.data.source import RawTables, no_side_table
from recray.data.sources.files.download import download
from recray.data.sources.files.raw_files import find_raw, fingerprint, require_file, where_to_put
from recray.data.sources.published.amazon_lines import Record, records
from recray.data.sources.published.delimited import Layout, Role, read_events
from recray.data.sources.tables.checks import rating_problem, time_problem
from recray.data.sources.tables.side_types import lost_note
from recray.schema import DataError

log = logging.getLogger(__name__)

URL = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
CATEGORIES = {
    "amazon-2014-beauty": "Beauty",
    "amazon-2014-sports": "Sports_and_Outdoors",
    "amazon-toys": "Toys_and_Games",
}
"""Registered data set -> category in the names of its files."""
_FILE_NAME = re.compile(r"(?:reviews|ratings)_([A-Z][A-Za-z_]*?)(?:_5)?(?:\.json|\.json\.gz|\.csv)")
_ITEM_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "raw_id": pl.String,
    "title": pl.String,
    "text": pl.String,
    "categories": pl.List(pl.String),
    "brand": pl.String,
    "price": pl.Float64,
}
_ROLES: tuple[Role, ...] = ("user", "item", "rating", "timestamp")


def is_amazon(path: Path) -> bool:
    """Whether a file is called as Amazon's interactions are: ``reviews_Beauty_5.json.gz``."""
    return bool(_FILE_NAME.fullmatch(path.name))


class _Files(NamedTuple):
    events: Path
    meta: Path | None


@dataclass(frozen=True, kw_only=True)
class AmazonReviews:
    """``path`` None: the 5-core reviews and the items of a registered name, from the raw folders, else
    downloads. With ``path`` (reviews or ratings) the ``meta_`` file beside it is read where it exists.
    """

    name: str
    path: Path | None = None
    allow_download: bool = True

    def __post_init__(self) -> None:
        if self.path is None and self.name not in CATEGORIES:
            raise ConfigError(f"no Amazon data set {self.name!r}{nearest(self.name, CATEGORIES)}")
        if self.path is not None and not is_amazon(self.path):
            raise ConfigError(
                f"{self.path.name} is not named like Amazon's reviews or ratings: call it e.g. "
                "reviews_Beauty_5.json.gz or ratings_Beauty.csv"
            )

    @property
    def reader(self) -> str:
        return "amazon-2014"

    def options(self) -> dict[str, Any]:
        if self.path is None:
            return {"category": CATEGORIES[self.name]}
        meta = _meta_beside(self.path)
        return {"files": [fingerprint(path) for path in (self.path, meta) if path]}

    def read(self, scratch: Path) -> RawTables:
        files = self._locate()
        require_file(files.events)
        events = _read_ratings(files.events) if files.events.suffix == ".csv" else _read_reviews(files.events)
        items, notes = no_side_table(), ""
        if files.meta:
            items, notes = _read_items(files.meta, wanted=set(events["item"].unique()))
        else:
            log.warning("%s: no meta file beside it; items have neither title nor categories", files.events)
        return RawTables(
            interactions=events,
            items=items,
            rating_range=(1, 5),
            notes=(notes,) if notes else (),
            files={path.name: f"sha256:{_sha256(path)}" for path in files if path},
        )

    def _locate(self) -> _Files:
        if self.path is not None:
            return _Files(self.path, _meta_beside(self.path))
        category = CATEGORIES[self.name]
        return _Files(self._found(f"reviews_{category}_5.json.gz"), self._found(f"meta_{category}.json.gz"))

    def _found(self, file_name: str) -> Path:
        unpacked = file_name.removesuffix(".gz")
        places = [f"{folder}{name}" for folder in ("", f"{self.name}/") for name in (file_name, unpacked)]
        found = next((path for place in places if (path := find_raw(place))), None)
        if found:
            return found
        if not self.allow_download:
            raise DataError(f"{self.name} is not at hand: {where_to_put(file_name)}")
        to = paths.raw_dirs()[-1] / file_name
        return download(f"{URL}/{file_name}", to, otherwise=where_to_put(file_name))


def _meta_beside(path: Path) -> Path | None:
    match = _FILE_NAME.fullmatch(path.name)
    assert match, path
    names = (f"meta_{match[1]}.json.gz", f"meta_{match[1]}.json")
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _read_ratings(path: Path) -> pl.DataFrame:
    layout = Layout(
        columns={role: role for role in _ROLES},
        dtypes={"user": pl.String, "item": pl.String, "rating": pl.Float32, "timestamp": pl.Int64},
        names=_ROLES,
    )
    return read_events(path, layout, label=str(path))


def _read_reviews(path: Path) -> pl.DataFrame:
    users, items, ratings, times = [], [], [], []
    for record in records(path):
        users.append(_text_of(record, "reviewerID"))
        items.append(_text_of(record, "asin"))
        rating = _number_of(record, "overall")
        seconds = _number_of(record, "unixReviewTime")
        problem = rating_problem(rating) or time_problem(seconds)
        if problem:
            raise DataError(f"{record.where}: {problem}")
        ratings.append(rating)
        times.append(int(seconds))
    if not users:
        raise DataError(f"{path} has no review: fetch it again")
    return pl.DataFrame(
        {"user": users, "item": items, "rating": ratings, "timestamp": times},
        schema={"user": pl.String, "item": pl.String, "rating": pl.Float32, "timestamp": pl.Int64},
    )


def _text_of(record: Record, field: str) -> str:
    value = record.values.get(field)
    if not isinstance(value, str) or not value or _valid(value) != value:
        raise DataError(f"{record.where}: {field} is {value!r}, wanted a text: drop the line")
    return value


def _valid(text: str) -> str:
    """Halves of surrogate pairs, which JSON can write and no table can hold, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _number_of(record: Record, field: str) -> float:
    value = record.values.get(field)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{record.where}: {field} is {value!r}, wanted a number: drop the line")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _read_items(path: Path, wanted: set[str]) -> tuple[pl.DataFrame, str]:
    """Side columns of the wanted items, and a note on prices that are none.

    Meta files describe many more items than the 5-core reviews have.
    """
    require_file(path)
    rows: list[tuple[Any, ...]] = []
    lost = []
    for record in records(path, only=("asin", wanted)):
        values = record.values
        if values.get("price") is not None and _price(values["price"]) is None:
            lost.append(str(values["price"]))
        rows.append(
            (
                _text_of(record, "asin"),
                _plain(values.get("title")),
                _plain(values.get("description")),
                _categories(values.get("categories")),
                _plain(values.get("brand")),
                _price(values.get("price")),
            )
        )
    known = {row[0] for row in rows}
    if not known:
        raise DataError(f"{path} describes none of the {len(wanted):,} items: is it of the same category?")
    log.info("%s: %s of %s items described", path.name, f"{len(known):,}", f"{len(wanted):,}")
    table = pl.DataFrame(rows, schema=_ITEM_COLUMNS, orient="row")
    return table, lost_note("price", pl.Series(lost, dtype=pl.String))


def _plain(value: object) -> str | None:
    """Text without HTML's entities and line breaks; None where there is none."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return None
    return " ".join(_valid(html.unescape(value)).split()) or None


def _categories(value: object) -> list[str] | None:
    """All names of all paths through the tree of categories, each once, in order."""
    if not isinstance(value, list):
        return None
    found = [name for path in value for name in (path if isinstance(path, list) else [path])]
    names = dict.fromkeys(plain for name in found if (plain := _plain(name)))
    return list(names) or None


def _price(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
