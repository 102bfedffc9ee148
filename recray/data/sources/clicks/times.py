"""Which column of a table of clicks tells their times, where nobody says it."""

import re
from collections.abc import Iterable

import polars as pl

from recray.data.sources.tables.checks import BadValueError, bounds
from recray.data.sources.tables.times import TimeUnit, times_of

_NAMES = re.compile(r"(?i:(^|[_\s])(at|time|timestamp|datetime|date))$|[a-z](At|Time|Timestamp|Date)$")
_EARLIEST_S = 1_000_000_000  # September 2001: smaller numbers are rather counts than unix seconds


def names_time(name: str) -> bool:
    """``viewed_at``, ``event time``, ``clickDate``."""
    return _NAMES.search(name) is not None


def time_columns(columns: Iterable[pl.Series], unit: TimeUnit | None, form: str | None) -> list[str]:
    """Columns of which every value is a time, and that could therefore be the one of the rows."""
    return [column.name for column in columns if _holds_times(column, unit, form)]


def _holds_times(column: pl.Series, unit: TimeUnit | None, form: str | None) -> bool:
    try:
        found = times_of(column, unit=unit, form=form)
    except BadValueError:
        return False
    low, high = bounds(found.ticks)
    return low < high and low >= _EARLIEST_S * found.ticks_per_s
