"""Rows of table files as tidy events: one frame from all files, then column by column to its type.

Whatever is wrong is said with the file, the line, the column, the value and the way out.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import polars as pl

from recray.data.source import Events
from recray.data.sources.tables.checks import BadValueError, first_row
from recray.data.sources.tables.decimals import DecimalMark
from recray.data.sources.tables.joined import joined, pieces_of
from recray.data.sources.tables.roles import Role
from recray.data.sources.tables.side_types import stripped
from recray.data.sources.tables.table_files import TableFile
from recray.data.sources.tables.times import Times, TimeUnit, times_of
from recray.data.sources.tables.values import Column, ids_of, plain_ids, ratings_of
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


@dataclass(frozen=True)
class TableSlice:
    """Some rows of a table; see ``source.Slice``."""

    part: Part
    how: Reading
    first_row: int

    def read(self) -> Events:
        return read_events([self.part], self.how)


def read_events(parts: Sequence[Part], how: Reading) -> Events:
    """All rows that have a user; there may be none.

    Raises:
        DataError: a file is wrong, or a value is.
    """
    rows = _Rows(parts, how)
    user, item = (_ids(rows, role, how) for role in ("user", "item"))
    columns = {"user": user.values, "item": item.values}
    notes = [*user.notes, *item.notes]
    if rows.has("rating"):
        columns["rating"], said = _ratings(rows, how)
        notes += said
    ticks_per_s = 0
    if rows.has("timestamp"):
        times = _times(rows, how)
        notes += times.notes
        columns["timestamp"], ticks_per_s = times.ticks, times.ticks_per_s
    if rows.has("event_type"):
        columns["event_type"] = rows.explained("event_type", lambda: _event_types(rows.column("event_type")))
    events = pl.DataFrame([values.alias(name) for name, values in columns.items()])
    if "rating" not in columns:
        events = events.with_columns(pl.lit(1.0, pl.Float32).alias("rating"))
    if not ticks_per_s:
        events = events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("timestamp"))
    further = ["event_type"] if "event_type" in columns else []
    events = events.select("user", "item", "rating", "timestamp", *further, *rows.sides())
    if user.values.null_count():
        events, note = rows.explained("user", lambda: _without_anonymous(events, how, rows))
        notes.append(note)
    return Events(events, ticks_per_s, tuple(notes))


class _Rows:
    """All rows of all files, file by file; knows where each stands."""

    def __init__(self, parts: Sequence[Part], how: Reading) -> None:
        for part in parts:
            _require_roles_of(parts[0], part)
        read = [(part, _frame(part, how)) for part in parts]
        filled = [(part, frame) for part, frame in read if len(frame)]
        if not filled:
            raise DataError(f"{parts[0].file.label}: no rows (0 rows); is the file complete?")
        self._parts, self._frames = [part for part, _ in filled], [frame for _, frame in filled]
        self._labels = [part.file.label for part in self._parts]

    def has(self, role: Role) -> bool:
        return any(role in part.roles for part in self._parts)

    def sides(self) -> list[pl.Series]:
        """Empty in the rows of a file that has not that column."""
        return [
            self.column(SIDE + name) for name in dict.fromkeys(n for part in self._parts for n in part.sides)
        ]

    def column(self, name: str) -> pl.Series:
        return self.joined(pieces_of(name, self._frames))

    def joined(self, pieces: Sequence[pl.Series]) -> pl.Series:
        """Where they are not of one type, it is said of the column as the files call it."""
        name = pieces[0].name
        called = {str(role): column for role, column in self._parts[0].roles.items()}
        told = called.get(name, name.removeprefix(SIDE))
        return joined([piece.alias(told) for piece in pieces], self._labels).alias(name)

    def each(self, role: Role, convert: Callable[[pl.Series], T]) -> list[T]:
        """What the column of each file becomes: types and forms are one file's own.

        Raises:
            DataError: in the place of a ``BadValueError``, with its file and line.
        """
        start, found = 0, []
        for frame in self._frames:
            found.append(self.explained(role, partial(convert, frame[role]), start))
            start += len(frame)
        return found

    def explained(self, role: Role, convert: Callable[[], T], start: int = 0) -> T:
        """
        Args:
            start: the row of all from which on ``convert`` counts.

        Raises:
            DataError: in the place of a ``BadValueError``, with its file and line.
        """
        try:
            return convert()
        except BadValueError as bad:
            number, row = 0, start + (bad.row or 0)
            while row >= len(self._frames[number]):
                row, number = row - len(self._frames[number]), number + 1
            file, roles, _ = self._parts[number]
            place = file.label if bad.row is None else file.where(row)
            raise DataError(f"{place}: column {roles.get(role, role)!r}: {bad.text}") from None

    def place(self, role: Role) -> str:
        return f"{self._labels[0]}: column {self._parts[0].roles[role]!r}"

    def said(self, notes: Sequence[Sequence[str]]) -> list[str]:
        """The notes on each file as one list; what is true of some files only names them."""
        told: dict[str, list[str]] = {}
        for label, of_file in zip(self._labels, notes, strict=True):
            for note in of_file:
                told.setdefault(note, []).append(Path(label).name)
        return [
            note if len(files) == len(self._labels) else f"{note} ({_some(files)})"
            for note, files in told.items()
        ]


def _some(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3:,} more" if len(files) > 3 else "")


def _require_roles_of(first: Part, part: Part) -> None:
    for one, other in ((first, part), (part, first)):
        for role in ("rating", "timestamp", "event_type"):
            if role in one.roles and role not in other.roles:
                raise DataError(
                    f"{other.file.label} has no column for the {role}, which is {one.roles[role]!r} in "
                    f"{one.file.label}: add it there, or leave it out everywhere with {role}= (nothing)"
                )


def _ids(rows: _Rows, role: Literal["user", "item"], how: Reading) -> Column:
    whole = rows.joined(rows.each(role, lambda values: plain_ids(values, role)))
    ids = rows.explained(role, lambda: ids_of(whole, role, as_text=how.ids_as_text))
    if role == "item":
        rows.explained(role, lambda: _require(ids.values, "item is empty: drop the row or fill it in"))
    return ids


def _ratings(rows: _Rows, how: Reading) -> tuple[pl.Series, list[str]]:
    pieces = rows.each("rating", lambda values: values)
    found = rows.each(
        "rating", lambda values: ratings_of(values, how.decimal, (p for p in pieces if p is not values))
    )
    return pl.concat([each.values for each in found]), rows.said([each.notes for each in found])


def _times(rows: _Rows, how: Reading) -> Times:
    """At the finest resolution of any file."""
    pieces = rows.each("timestamp", lambda values: values)

    def converted(values: pl.Series) -> Times:
        beside = [each for each in pieces if each is not values and each.dtype == pl.String]
        return times_of(values, unit=how.time_unit, form=how.time_format, beside=beside)

    found = rows.each("timestamp", converted)
    finest = max(each.ticks_per_s for each in found)
    ticks = pl.concat([_finer(each, finest) for each in found])
    doubt = next((each.doubt for each in found if each.doubt), "")
    if doubt:
        log.warning("%s: %s", rows.place("timestamp"), doubt)
    return Times(ticks, finest, (*rows.said([each.notes for each in found]), *filter(None, [doubt])))


def _finer(times: Times, ticks_per_s: int) -> pl.Series:
    share = ticks_per_s // times.ticks_per_s
    return times.ticks * share if share > 1 else times.ticks


def _frame(part: Part, how: Reading) -> pl.DataFrame:
    types = {part.roles[role]: kind for role, kind in _TYPES.items() if role in part.roles}
    if how.time_format is not None:  # of text: 01022020 is no number
        types.pop(part.roles.get("timestamp", ""), None)
    if how.decimal is not None:
        types.pop(part.roles.get("rating", ""), None)
    read = part.file.read([*part.roles.values(), *part.sides], types)
    read = read.with_columns(pl.selectors.by_dtype(pl.Categorical, pl.Enum).cast(pl.String))
    return read.select(
        *(pl.col(name).alias(role) for role, name in part.roles.items()),
        *(pl.col(name).alias(SIDE + name) for name in part.sides),
    )


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
