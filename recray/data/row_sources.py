"""Every data set of rows to rank that has a name, and the reader that fits a file or a folder."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from recray.config import ConfigError, from_dict, nearest
from recray.data import sources
from recray.data.clicks import Clicks
from recray.data.prepare import ensure
from recray.data.row_source import RowSource
from recray.data.sources.criteo import Criteo, is_click_log
from recray.data.sources.letor import Letor, is_letor
from recray.data.sources.synthetic_clicks import SyntheticClicks
from recray.data.sources.tables import Table
from recray.schema import DataError


@dataclass(frozen=True, kw_only=True)
class RowSourceInfo:
    """A line of ``recray datasets``."""

    name: str
    text: str
    licence: str
    kind: type[Any]
    fields: dict[str, Any] = field(default_factory=dict)  # of ``kind``, beside the name

    def build(self, options: Mapping[str, Any]) -> RowSource:
        source: RowSource = from_dict(self.kind, {"name": self.name, **self.fields, **options})
        return source


_CRITEO = "Criteo: non-commercial, no redistribution"

ROW_SOURCES: dict[str, RowSourceInfo] = {
    info.name: info
    for info in (
        RowSourceInfo(
            name="synthetic-clicks",
            text="generated lines in Criteo's format; the best possible prediction is known",
            licence="generated",
            kind=SyntheticClicks,
        ),
        RowSourceInfo(
            name="criteo-sample",
            text="Criteo display ads: 7,200 + 409 + 391 lines of the Kaggle set",
            licence=_CRITEO,
            kind=Criteo,
            fields={"min_count": 3},
        ),
        RowSourceInfo(
            name="criteo-kaggle",
            text="Criteo display ads, Kaggle 2014: 45,840,617 lines of seven days",
            licence=_CRITEO,
            kind=Criteo,
        ),
        RowSourceInfo(
            name="criteo-1tb",
            text="Criteo 1TB click logs: 4.4 billion lines of 24 days",
            licence=_CRITEO,
            kind=Criteo,
            fields={"ids": "hashed", "buckets": 1_000_000},
        ),
        RowSourceInfo(
            name="ltr-lightgbm",
            text="LightGBM's ranking example: 201 + 50 queries, 3,773 rows, 300 features, grades 0-4",
            licence="research use",
            kind=Letor,
        ),
    )
}


def options_of(name_or_path: str) -> tuple[str, dict[str, Any]]:
    """Name and options of ``criteo-kaggle?ids=hashed&buckets=1000``, written as in a web address."""
    name, _, query = name_or_path.partition("?")
    return name, {key: _value(text) for key, text in parse_qsl(query, keep_blank_values=True)}


def _value(text: str) -> Any:
    """A number where it is one."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def is_row_name(name: str) -> bool:
    """Whether rows of that name are at hand: rows themselves, or a data set of interactions."""
    return name in ROW_SOURCES or sources.is_registered(name)


def row_source_of(name_or_path: str, options: Mapping[str, Any]) -> RowSource:
    """The source of that name, or the reader that fits what lies at that path.

    Raises:
        ConfigError: neither a known name nor a path, or an option that the source does not have.
        DataError: no reader fits.
    """
    if sources.is_registered(name_or_path):
        return from_dict(Clicks, {"dataset": ensure(name_or_path), **options})
    path = Path(name_or_path).expanduser()
    if path.suffix in (*sources.TABLES, ".inter") and not is_click_log(path):
        return _clicks_of(path, options)
    if name_or_path not in ROW_SOURCES and not path.exists():
        if path.name != name_or_path:
            raise DataError(f"{path} does not exist")
        names = [*ROW_SOURCES, *sources.SOURCES]
        raise ConfigError(f"no data set {name_or_path!r}{nearest(name_or_path, names)}")
    if "sessions" in options:
        raise ConfigError(
            f"sessions={options['sessions']!r}: only ratings become lists, and {name_or_path} has none: "
            "leave it out, or name a data set of ratings such as ml-1m"
        )
    if name_or_path in ROW_SOURCES:
        return ROW_SOURCES[name_or_path].build(options)
    if path.is_dir() and is_letor(path, options):
        return from_dict(Letor, {"name": path.name, "path": path, **options})
    return from_dict(Criteo, {"name": path.stem, "path": path, **options})


def _clicks_of(path: Path, options: Mapping[str, Any]) -> RowSource:
    """Clicks of a file of interactions; options of the table and of the clicks stand side by side."""
    columns = {f.name for f in fields(Table)} - {"path"} if path.suffix in sources.TABLES else set()
    query = urlencode({key: value for key, value in options.items() if key in columns})
    others = {key: value for key, value in options.items() if key not in columns}
    return from_dict(Clicks, {"dataset": ensure(f"{path}?{query}" if query else str(path)), **others})
