"""Every raw data set that has a name, and the reader that fits a file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from recray.config import ConfigError, from_dict, nearest
from recray.data.source import Source
from recray.data.sources.amazon import CATEGORIES, URL, AmazonReviews, is_amazon
from recray.data.sources.movielens import VARIANTS, MovieLens
from recray.data.sources.recbole import RecBole
from recray.data.sources.sequences_text import SequenceText
from recray.data.sources.synthetic import Synthetic
from recray.data.sources.tables import Table
from recray.schema import DataError


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """A line of ``recray datasets``."""

    name: str
    text: str
    licence: str
    size_bytes: int | None  # of the raw archive; 0: nothing to fetch; None: not known
    url: str | None  # None: generated, or to be fetched by hand
    raw_file: str | None  # looked for in the raw folders; None: generated
    build: Callable[[], Source]


def _movielens(name: str, text: str) -> SourceInfo:
    variant = VARIANTS[name]
    return SourceInfo(
        name=name,
        text=text,
        licence="GroupLens: research use, no redistribution",
        size_bytes=variant.size_bytes,
        url=variant.url(name),
        raw_file=f"{name}.zip",
        build=lambda: MovieLens(name=name),
    )


def _amazon(name: str, text: str, size_bytes: int) -> SourceInfo:
    return SourceInfo(
        name=name,
        text=text,
        licence="research use",
        size_bytes=size_bytes,
        url=None,
        raw_file=f"{name}/sequences_with_gaps.txt",
        build=lambda: SequenceText(name=name),
    )


def _amazon_2014(name: str, text: str) -> SourceInfo:
    file = f"reviews_{CATEGORIES[name]}_5.json.gz"
    return SourceInfo(
        name=name,
        text=text,
        licence="research use",
        size_bytes=None,
        url=f"{URL}/{file}",
        raw_file=file,
        build=lambda: AmazonReviews(name=name),
    )


_SYNTHETIC = SourceInfo(
    name="synthetic",
    text="planted tastes, drift, sessions and film-like items; the best possible answer is known",
    licence="generated",
    size_bytes=0,
    url=None,
    raw_file=None,
    build=Synthetic,
)

SOURCES: dict[str, SourceInfo] = {
    info.name: info
    for info in (
        _SYNTHETIC,
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
            2_081_944,
        ),
        _amazon(
            "amazon-sports",
            "Amazon 2014 Sports, 5-core: 296,337 actions, 35,598 users, 18,357 items",
            3_134_970,
        ),
        _amazon_2014("amazon-2014-beauty", "Amazon 2014 Beauty, 5-core, from the raw reviews and items"),
        _amazon_2014("amazon-2014-sports", "Amazon 2014 Sports, 5-core, from the raw reviews and items"),
        _amazon_2014(
            "amazon-toys", "Amazon 2014 Toys, 5-core: 167,597 reviews, 19,412 users, 11,924 items, with text"
        ),
    )
}

TABLES = (".csv", ".tsv", ".parquet")
_READERS: dict[str, Callable[[Path], Source]] = {
    **dict.fromkeys(TABLES, lambda path: Table(path=path)),
    ".inter": lambda path: RecBole(path=path),
    ".txt": lambda path: SequenceText(name=path.stem, path=path),
}


def is_registered(name: str) -> bool:
    return name in SOURCES


def source_of(name_or_path: str) -> Source:
    """The source of that name, or the reader for that file by its suffix.

    A table's path may carry the options of ``Table``, written like a web address's query:
    ``events.csv?user=customer&item=product&timestamp=when&time_unit=ms``.

    Raises:
        ConfigError: neither a known name nor a file; the message names the nearest.
        DataError: a file that no reader fits, or none at that path.
    """
    if is_registered(name_or_path):
        return SOURCES[name_or_path].build()
    file, _, query = name_or_path.partition("?")
    path = Path(file).expanduser()
    if is_amazon(path) and not query:
        return AmazonReviews(name=path.name.partition(".")[0], path=path)
    if query and path.suffix in TABLES:
        return _table(path, query)
    if path.suffix in _READERS:
        return _READERS[path.suffix](path)
    if path.exists() or path.name != name_or_path:
        raise DataError(
            f"{path}: no reader for it; there is one for {', '.join(_READERS)}, and for Amazon's files by "
            "their names (reviews_Beauty_5.json.gz, ratings_Beauty.csv)"
        )
    raise ConfigError(f"no data set {name_or_path!r}{nearest(name_or_path, SOURCES)}")


def absolute(name_or_path: str) -> str:
    """The same data set from any working directory: paths made absolute, names left alone."""
    file = name_or_path.partition("?")[0]
    if is_registered(name_or_path) or (not Path(file).suffix and "/" not in file):
        return name_or_path
    return str(Path(name_or_path).expanduser().absolute())


def _table(path: Path, query: str) -> Table:
    options = dict(parse_qsl(query, keep_blank_values=True))
    try:
        return from_dict(Table, {**options, "path": path})
    except ConfigError as error:
        raise ConfigError(f"{path}?{query}: {error}") from None
