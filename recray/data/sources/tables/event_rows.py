"""Rows of table files as tidy events: one frame from all files, then column by column to its type.

Whatever is wrong is said with the file, the line, the column, the value and the way out.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import polars as pl

from recray.data.sources.tables.checks import BadValueError, first_row
from recray.data.sources.tables.decimals import DecimalMark
from recray.data.sources.tables.roles import Role
from recray.data.sources.tables.side_types import stripped
from recray.data.sources.tables.table_files import TableFile
from recray.data.sources.tables.times import TimeUnit, times_of
from recray.data.sources.tables.values import Column, ids_of, ratings_of
from recray.schema import DataError

log = logging.getLogger(__name__)

T = TypeVar("T")
Anonymous = Literal["refuse", "drop", "session"]
SIDE = "item."
"""Begins the name of a column that says something of the item."""
SESSION_USER = "session:"
"""Begins the user that stands for a session without one."""
_MOST_EVENT_TYPES = 100
_TYPES: Mapping[Role, type[pl.DataType]] = {"rating": pl.Float64, "timestamp": pl.Int64}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a person said about the values."""

    time_unit: TimeUnit | None = None
    time_format: str | None = None
    ids_as_text: bool = False
    decimal: DecimalMark | None = None
    anonymous: Anonymous = "refuse"


class Part(NamedTuple):
    """One file, and which of its columns are read."""

    file: TableFile
    roles: Mapping[Role, str]
    sides: Sequence[str]


class Events(NamedTuple):
    rows: pl.DataFrame  # the columns of ``RawTables.interactions``, and ``item.<column>`` as they were
    ticks_per_s: int  # of the times; 0: there are none, and rows are numbered
    notes: tuple[str, ...]


def read_events(parts: Sequence[Part], how: Reading) -> Events:
    """
    Raises:
        DataError: a file is wrong, or a value is.
    """
    rows = _Rows(parts, how)
    notes: list[str] = []
    user = rows.converted("user", lambda values: ids_of(values, "user", as_text=how.ids_as_text))
    item = rows.converted("item", lambda values: _item_ids(values, how.ids_as_text))
    columns = {"user": user.values, "item": item.values}
    notes += [*user.notes, *item.notes]
    if rows.has("rating"):
        rating = rows.converted("rating", lambda values: ratings_of(values, how.decimal))
        notes += rating.notes
        columns["rating"] = rating.values
    ticks_per_s = 0
    if rows.has("timestamp"):
        times = rows.converted("timestamp", lambda v: times_of(v, unit=how.time_unit, form=how.time_format))
        notes += times.notes
        if times.doubt:
            log.warning("%s: column %r: %s", parts[0].file.label, parts[0].roles["timestamp"], times.doubt)
            notes.append(times.doubt)
        columns["timestamp"], ticks_per_s = times.ticks, times.ticks_per_s
    if rows.has("event_type"):
        columns["event_type"] = rows.converted("event_type", _event_types)
    events = pl.DataFrame([values.alias(name) for name, values in columns.items()])
    if "rating" not in columns:
        events = events.with_columns(pl.lit(1.0, pl.Float32).alias("rating"))
    if not ticks_per_s:
        events = events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("timestamp"))
    further = ["event_type"] if "event_type" in columns else []
    events = events.select("user", "item", "rating", "timestamp", *further, *rows.sides())
    if user.values.null_count():
        events, note = rows.converted("user", lambda _: _without_anonymous(events, how, rows))
        notes.append(note)
    if len(events) == 0:
        raise DataError(f"{parts[0].file.label}: no row has a user, so none is left")
    return Events(events, ticks_per_s, tuple(notes))


class _Rows:
    """All rows of all files; knows where each stands."""

    def __init__(self, parts: Sequence[Part], how: Reading) -> None:
        self._parts = parts
        frames = [_frame(part, how) for part in parts]
        self._sizes = [len(frame) for frame in frames]
        self._frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")
        if len(self._frame) == 0:
            raise DataError(f"{parts[0].file.label}: no rows (0 rows); is the file complete?")

    def has(self, role: Role) -> bool:
        return role in self._frame.columns

    def sides(self) -> list[pl.Series]:
        return [column for column in self._frame if column.name.startswith(SIDE)]

    def column(self, role: Role) -> pl.Series:
        return self._frame[role]

    def converted(self, role: Role, convert: Callable[[pl.Series], T]) -> T:
        """
        Raises:
            DataError: in the place of a ``BadValueError``, with its file and line.
        """
        try:
            return convert(self._frame[role])
        except BadValueError as bad:
            number, row = 0, bad.row
            while row is not None and row >= self._sizes[number]:
                row, number = row - self._sizes[number], number + 1
            file, roles, _ = self._parts[number]
            place = file.label if row is None else file.where(row)
            raise DataError(f"{place}: column {roles.get(role, role)!r}: {bad.text}") from None


def _frame(part: Part, how: Reading) -> pl.DataFrame:
    types = {part.roles[role]: kind for role, kind in _TYPES.items() if role in part.roles}
    if how.time_format is not None:  # of text: 01022020 is no number
        types.pop(part.roles.get("timestamp", ""), None)
    if how.decimal is not None:
        types.pop(part.roles.get("rating", ""), None)
    read = part.file.read([*part.roles.values(), *part.sides], types)
    return read.select(
        *(pl.col(name).alias(role) for role, name in part.roles.items()),
        *(pl.col(name).alias(SIDE + name) for name in part.sides),
    )


def _item_ids(values: pl.Series, as_text: bool) -> Column:
    ids = ids_of(values, "item", as_text=as_text)
    _require(ids.values, "item is empty: drop the row or fill it in")
    return ids


def _require(values: pl.Series, text: str) -> None:
    if values.null_count():
        raise BadValueError(first_row(values.is_null()), text)


def _event_types(values: pl.Series) -> pl.Series:
    types = stripped(values.cast(pl.String))
    _require(
        types, "event_type is empty: drop the row or fill it in; event_type= (nothing) leaves the column out"
    )
    if types.n_unique() > _MOST_EVENT_TYPES:
        raise BadValueError(
            None,
            f"has {types.n_unique():,} different values, an event_type at most {_MOST_EVENT_TYPES}: name the "
            "right column; event_type= (nothing) leaves it out",
        )
    return types


def _without_anonymous(events: pl.DataFrame, how: Reading, rows: _Rows) -> tuple[pl.DataFrame, str]:
    """Events of rows without a user: refused, left out, or given to their session."""
    nobody = events["user"].is_null()
    count = int(nobody.sum())
    if how.anonymous == "refuse":
        raise BadValueError(
            first_row(nobody),
            f"user is empty, as in {count:,} row{'s' * (count > 1)}: drop them or fill them in; "
            "anonymous=drop leaves such rows out, anonymous=session takes each session as a user",
        )
    if how.anonymous == "drop":
        return events.filter(~nobody), f"rows without a user were left out: {count:,}"
    if not rows.has("session"):
        raise BadValueError(None, "anonymous=session needs a column of sessions: name it with session=")
    known = events["user"].cast(pl.String)
    if known.str.starts_with(SESSION_USER).any():
        row = first_row(known.str.starts_with(SESSION_USER))
        raise BadValueError(row, f"user {known[row]!r} begins like those made of sessions: rename it")
    session = stripped(rows.column("session").cast(pl.String))
    lost = int((nobody & session.is_null()).sum())
    told = events.with_columns(
        pl.when(nobody).then(SESSION_USER + session).otherwise(known).alias("user")
    ).drop_nulls("user")
    note = f"rows without a user: {count:,}; their sessions stand for users ({SESSION_USER}…)"
    return told, note + (f"; without a session either, left out: {lost:,}" if lost else "")
