"""Where rows to rank come from: files of rows, or a data set of interactions whose ratings become clicks."""

import contextlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from recray.config import ConfigError, from_dict
from recray.data import sources
from recray.data.events.prepare import load_or_prepare
from recray.data.row_source import RowSource
from recray.data.rows.ratings import RatingsAsRows
from recray.data.sources.clicks.criteo import is_click_log
from recray.data.sources.clicks.table import is_click_table
from recray.data.sources.files.locations import kind_of
from recray.schema import DataError


def options_of(name_or_path: str) -> tuple[str, dict[str, object]]:
    """Name and options of ``criteo-kaggle?ids=hashed&buckets=1000``, written as in a web address."""
    name, _, query = name_or_path.partition("?")
    return name, {key: _value(text) for key, text in parse_qsl(query, keep_blank_values=True)}


def _value(text: str) -> int | float | str:
    """A number where it is one."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def holds_ratings(name_or_path: str) -> bool:
    """Whether rows of it are made from ratings, by their threshold or as lists."""
    return _are_ratings(*options_of(name_or_path))


def _are_ratings(name: str, options: Mapping[str, object]) -> bool:
    path = Path(name).expanduser()
    tables = kind_of(path.name) in (*sources.TABLES, ".inter")
    return sources.is_registered(name) or (
        tables and not is_click_log(path) and not is_click_table(path, options)
    )


def rows_of(name_or_path: str, options: Mapping[str, object]) -> RowSource:
    """The source of that name, or the reader that fits what lies at that path.

    Raises:
        ConfigError: neither a known name nor a path, or an option that the source does not have.
        DataError: no reader fits.
    """
    if sources.is_registered(name_or_path):
        return from_dict(RatingsAsRows, {"dataset": load_or_prepare(name_or_path), **options})
    if _are_ratings(name_or_path, options):
        return _ratings_in(Path(name_or_path).expanduser(), options)
    source = sources.row_source_of(name_or_path, {k: v for k, v in options.items() if k != "sessions"})
    if "sessions" in options:
        raise ConfigError(
            f"sessions={options['sessions']!r}: only ratings become lists, and {name_or_path} has none: "
            "leave it out, or name a data set of ratings such as ml-1m"
        )
    return source


def _ratings_in(path: Path, options: Mapping[str, object]) -> RowSource:
    """Rows of a file of interactions; options of its reader and of the rows stand side by side."""
    of_rows = {f.name for f in fields(RatingsAsRows)} - {"dataset"}
    query = urlencode({key: value for key, value in options.items() if key not in of_rows})
    rows = {key: value for key, value in options.items() if key in of_rows}
    try:
        dataset = load_or_prepare(f"{path}?{query}" if query else str(path))
    except DataError as error:
        if options:
            raise
        raise DataError(
            f"{error} (read as ratings: of a table of clicks, name their column with label=)"
        ) from error
    return from_dict(RatingsAsRows, {"dataset": dataset, **rows})
