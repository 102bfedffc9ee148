"""Where rows to rank come from: files of rows, or a data set of interactions whose ratings become clicks."""

import contextlib
from collections.abc import Mapping
from dataclasses import fields
from urllib.parse import parse_qsl, urlencode

from recray.config import ConfigError, from_dict
from recray.data import sources
from recray.data.events.prepare import load_or_prepare
from recray.data.row_source import RowSource
from recray.data.rows.ratings import RatingsAsRows
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
    return sources.row_source_of(*options_of(name_or_path)) is None


def rows_of(name_or_path: str, options: Mapping[str, object]) -> RowSource:
    """The source of that name, or the reader that fits what lies at that path.

    Raises:
        ConfigError: neither a known name nor a path, or an option that the source does not have.
        DataError: no reader fits.
    """
    source = sources.row_source_of(name_or_path, {k: v for k, v in options.items() if k != "sessions"})
    if source is None:
        return _rated(name_or_path, options)
    if "sessions" in options:
        raise ConfigError(
            f"sessions={options['sessions']!r}: only ratings become lists, and {name_or_path} has none: "
            "leave it out, or name a data set of ratings such as ml-1m"
        )
    return source


def _rated(name_or_path: str, options: Mapping[str, object]) -> RowSource:
    """Rows of interactions; options of their reader and of the rows stand side by side."""
    of_rows = {f.name for f in fields(RatingsAsRows)} - {"dataset"}
    if sources.is_registered(name_or_path):
        of_rows |= options.keys()
    query = urlencode({key: value for key, value in options.items() if key not in of_rows})
    rows = {key: value for key, value in options.items() if key in of_rows}
    try:
        dataset = load_or_prepare(f"{name_or_path}?{query}" if query else name_or_path)
    except DataError as error:
        if options:
            raise
        raise DataError(
            f"{error} (read as ratings: of a table of clicks, name their column with label=)"
        ) from error
    return from_dict(RatingsAsRows, {"dataset": dataset, **rows})
