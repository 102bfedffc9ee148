"""Every raw data set that has a name, and the reader that fits a file: the one registry of both kinds."""

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Literal, cast
from urllib.parse import parse_qsl

from recray.config import ConfigError, from_dict, nearest
from recray.data.row_source import RowSource
from recray.data.source import Source
from recray.data.sources.clicks.criteo import Criteo, is_click_log
from recray.data.sources.clicks.synthetic import SyntheticClicks
from recray.data.sources.clicks.table import ClickTable, is_click_table
from recray.data.sources.files.locations import (
    absolute_location,
    is_address,
    kind_of,
    list_files,
    refuse_packing,
    unique_name,
)
from recray.data.sources.published.amazon import AmazonReviews, is_amazon
from recray.data.sources.published.benchmark_folder import BenchmarkFolder
from recray.data.sources.published.letor import Letor, is_letor
from recray.data.sources.published.movielens import MovieLens
from recray.data.sources.published.recbole import RecBole
from recray.data.sources.published.sequences_text import SequenceText
from recray.data.sources.synthetic.source import Synthetic
from recray.data.sources.synthetic.waits import SyntheticWaits
from recray.data.sources.tables.interactions import InteractionTable
from recray.data.sources.tables.parts import benchmark_parts
from recray.data.sources.tables.table_files import TABLES as TABLES
from recray.schema import DataError


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """A line of ``recray datasets``, and the reader behind it."""

    name: str
    text: str
    licence: str
    reader: type[Any]
    fields: Mapping[str, object] = field(default_factory=dict)  # of the reader, beside the name
    holds: Literal["interactions", "rows"] = "interactions"

    def build(self, options: Mapping[str, object] = MappingProxyType({})) -> Source | RowSource:
        """A ``Source`` or, where it holds rows to rank, a ``RowSource``.

        Raises:
            ConfigError: an option that the reader does not have.
        """
        source: Source | RowSource = from_dict(self.reader, {"name": self.name, **self.fields, **options})
        return source


def _movielens(name: str, text: str) -> SourceInfo:
    licence = "GroupLens: research use, no redistribution"
    return SourceInfo(name=name, text=text, licence=licence, reader=MovieLens)


def _amazon(name: str, text: str, reader: type[Any] = AmazonReviews) -> SourceInfo:
    return SourceInfo(name=name, text=text, licence="research use", reader=reader)


def _criteo(name: str, text: str, **fields: object) -> SourceInfo:
    licence = "Criteo: non-commercial, no redistribution"
    return SourceInfo(name=name, text=text, licence=licence, reader=Criteo, fields=fields, holds="rows")


SOURCES: dict[str, SourceInfo] = {
    info.name: info
    for info in (
        SourceInfo(
            name="synthetic",
            text="planted tastes, drift, sessions and film-like items; the best possible answer is known",
            licence="generated",
            reader=Synthetic,
        ),
        SourceInfo(
            name="synthetic-waits",
            text="what comes next depends on how long a user waited; the best possible answer is known",
            licence="generated",
            reader=SyntheticWaits,
        ),
        _movielens("ml-100k", "MovieLens 100K: 100,000 ratings, 943 users, 1,682 films, 1998"),
        _movielens(
            "ml-latest-small", "MovieLens latest-small: 100,836 ratings, 610 users, 9,724 films, 2018"
        ),
        _movielens("ml-1m", "MovieLens 1M: 1,000,209 ratings, 6,040 users, 3,706 films, 2003"),
        _movielens("ml-25m", "MovieLens 25M: 25,000,095 ratings, 162,541 users, 59,047 films, 2019"),
        _movielens("ml-32m", "MovieLens 32M: 32,000,204 ratings, 200,948 users, 84,432 films, 2024"),
        _amazon(
            "amazon-beauty",
            "Amazon 2014 Beauty, 5-core: 198,502 actions, 22,363 users, 12,101 items",
            SequenceText,
        ),
        _amazon(
            "amazon-sports",
            "Amazon 2014 Sports, 5-core: 296,337 actions, 35,598 users, 18,357 items",
            SequenceText,
        ),
        _amazon("amazon-2014-beauty", "Amazon 2014 Beauty, 5-core, from the raw reviews and items"),
        _amazon("amazon-2014-sports", "Amazon 2014 Sports, 5-core, from the raw reviews and items"),
        _amazon(
            "amazon-toys", "Amazon 2014 Toys, 5-core: 167,597 reviews, 19,412 users, 11,924 items, with text"
        ),
        SourceInfo(
            name="synthetic-clicks",
            text="generated lines in Criteo's format; the best possible prediction is known",
            licence="generated",
            reader=SyntheticClicks,
            holds="rows",
        ),
        _criteo(
            "criteo-sample", "Criteo display ads: 7,200 + 409 + 391 lines of the Kaggle set", min_count=3
        ),
        _criteo("criteo-kaggle", "Criteo display ads, Kaggle 2014: 45,840,617 lines of seven days"),
        _criteo(
            "criteo-1tb",
            "Criteo 1TB click logs: 4.4 billion lines of 24 days",
            ids="hashed",
            buckets=1_000_000,
        ),
        SourceInfo(
            name="ltr-lightgbm",
            text="LightGBM's ranking example: 201 + 50 queries, 3,773 rows, 300 features, grades 0-4",
            licence="research use",
            reader=Letor,
            holds="rows",
        ),
    )
}


def names(holds: Literal["interactions", "rows"]) -> list[str]:
    """Names of the registered data sets of a kind."""
    return [name for name, info in SOURCES.items() if info.holds == holds]


def is_registered(name: str, holds: Literal["interactions", "rows"] = "interactions") -> bool:
    return name in SOURCES and SOURCES[name].holds == holds


def source_of(name_or_path: str) -> Source:
    """The source of that name, or the reader for what lies at that path.

    A path is a file, a folder, a glob or an address such as ``s3://bucket/events/``. It may carry the
    options of its reader, written like a web address's query:
    ``events.csv?user=customer&timestamp=when&time_unit=ms``.

    Raises:
        ConfigError: neither a known name nor a path, or an option that the reader does not have; the message
            names the nearest.
        DataError: a file that no reader fits, or none at that path.
    """
    if is_registered(name_or_path):
        return cast(Source, SOURCES[name_or_path].build())
    file, _, query = name_or_path.partition("?")
    if is_registered(file):
        raise ConfigError(f"{file} takes no options, got {query!r}")
    if _is_word(file):
        folder = f"; a folder is written ./{file}" if Path(file).is_dir() else ""
        raise ConfigError(f"no data set {file!r}{nearest(file, names('interactions'))}{folder}")
    options = _options(name_or_path, query)
    kind = kind_of(file)
    _require_name(name_or_path, options.get("name", ""))
    if is_address(file):
        return _with_options(InteractionTable, file, options)
    path = Path(os.path.expanduser(file))
    if is_amazon(path) and set(options) <= {"name"}:
        return AmazonReviews(path=path, name=options.get("name") or unique_name(path))
    if benchmark_parts(path):
        return _benchmark(path, options)
    if path.is_file():
        refuse_packing(path)
    if kind in TABLES or path.is_dir() or (glob.has_magic(file) and not path.exists()):
        return _with_options(InteractionTable, path, options)
    if kind == ".inter":
        return _with_options(RecBole, path, options)
    if kind == ".txt":
        return _with_options(InteractionTable if set(options) - {"name"} else SequenceText, path, options)
    if options and path.is_file():
        return _with_options(InteractionTable, path, options)
    if not path.suffix and not path.exists():
        raise DataError(f"{path} does not exist")
    raise DataError(
        f"{path}: no reader for it; there is one for {', '.join((*TABLES, '.inter', '.txt'))} (packed as "
        ".gz or .zst, or plain), for folders of them, and for Amazon's files by their names "
        "(reviews_Beauty_5.json.gz, ratings_Beauty.csv); a text table of another name is read where a column "
        "is named, e.g. ?user=user_id"
    )


def _is_word(name: str) -> bool:
    """A name and no path: those have a suffix or a slash."""
    return not PurePath(name).suffix and "/" not in name and not glob.has_magic(name)


def _options(name_or_path: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ConfigError(
            f"{name_or_path}: options are written ?name=value&other=value, got {query!r}"
        ) from None
    options = dict(pairs)
    if len(options) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"{name_or_path}: {twice}= is given twice: keep one")
    return options


def _require_name(name_or_path: str, name: str) -> None:
    if "/" in name or name.startswith("."):
        raise ConfigError(
            f"{name_or_path}: name={name!r} is no name of a data set: leave out / and a leading dot"
        )


def _with_options(reader: type[Any], location: Path | str, options: Mapping[str, object]) -> Source:
    """The reader of a place; those of files and of tables alike refuse what they do not know."""
    known = {field.name for field in fields(reader)} - {"path", "file", "allow_empty", "table"}
    for option in options:
        if option not in known:
            raise ConfigError(f"{location}: no option {option!r} of this reader{nearest(option, known)}")
    try:
        source: Source = from_dict(reader, {**options, "path": location})
    except ConfigError as error:
        raise ConfigError(f"{location}: {error}") from None
    return source


def _benchmark(path: Path, options: Mapping[str, object]) -> Source:
    table = {key: value for key, value in options.items() if key != "name"}
    _with_options(InteractionTable, path, options)  # so that an unknown option is refused by its name
    return BenchmarkFolder(path=path, name=str(options.get("name", "")), table=table)


def data_name(name_or_path: str) -> str:
    """What the data set of interactions of that name or file is called, in bundles and on cards."""
    file = name_or_path.partition("?")[0]
    return file if _is_word(file) else source_of(name_or_path).name


def row_source_of(name_or_path: str, options: Mapping[str, object]) -> RowSource | None:
    """The source of rows to rank of that name, or the reader that fits what lies at that path.

    What is in a file decides, not what its name ends in. None: it holds interactions.

    Raises:
        ConfigError: neither a known name nor a path, or an option that the source does not have.
        DataError: no such path.
    """
    if is_registered(name_or_path):
        return None
    if is_registered(name_or_path, "rows"):
        return cast(RowSource, SOURCES[name_or_path].build(options))
    place = name_or_path if is_address(name_or_path) else Path(name_or_path).expanduser()
    if isinstance(place, Path):
        _require_place(name_or_path, place)
        if place.is_dir() and is_letor(place, options):
            return from_dict(Letor, {"name": unique_name(place), "path": place, **options})
    if is_click_table(place, options):
        return from_dict(ClickTable, {"path": place, **options})
    if isinstance(place, Path) and not _holds_tables(place):
        return from_dict(Criteo, {"name": unique_name(place), "path": place, **options})
    return None


def _require_place(name_or_path: str, place: Path) -> None:
    if place.suffix or place.exists() or glob.has_magic(name_or_path):
        return
    if place.name != name_or_path:
        raise DataError(f"{place} does not exist")
    raise ConfigError(f"no data set {name_or_path!r}{nearest(name_or_path, SOURCES)}")


def _holds_tables(place: Path) -> bool:
    """Tables that are no click logs, by the names of their files."""
    if place.is_dir() or glob.has_magic(str(place)):
        try:
            place = Path(list_files(place, TABLES)[0].path)
        except DataError:
            return False
    return kind_of(place.name) in (*TABLES, ".inter") and not is_click_log(place)


def absolute(name_or_path: str) -> str:
    """The same data set from any working directory: paths made absolute, names and addresses left alone.

    Tables of items and users need no care: they are told from the folder of the events.
    """
    file, mark, query = name_or_path.partition("?")
    if is_registered(file) or is_registered(file, "rows") or _is_word(file):
        return name_or_path
    return absolute_location(file) + mark + query
