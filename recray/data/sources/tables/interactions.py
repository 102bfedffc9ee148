"""Any table of interactions with a column for the user and the item: what people have, as they have it.

CSV, TSV, Parquet or JSON lines, packed or plain; one file, a folder of them or a glob; here or on object
storage.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from recray.config import ConfigError
from recray.data.source import ABSOLUTE_TIMES, ROW_NUMBERS, RawTables, no_side_table
from recray.data.sources.files.locations import beside, list_files, unique_name
from recray.data.sources.tables.checks import BadValueError, bounds
from recray.data.sources.tables.decimals import DECIMAL_MARKS, DecimalMark
from recray.data.sources.tables.dialects import Dialect
from recray.data.sources.tables.event_rows import SIDE, Anonymous, Part, Reading, TableSlice, read_events
from recray.data.sources.tables.roles import (
    ITEM_COLUMNS,
    Role,
    columns_by_role,
    names_columns,
    only_time,
    plain_name,
)
from recray.data.sources.tables.side_tables import (
    SideTable,
    by_type,
    changed_values,
    newest_values,
    read_side_table,
    require_known,
    stored_name,
)
from recray.data.sources.tables.side_types import SideType, parse_types, require_columns
from recray.data.sources.tables.table_files import TABLES, TableFile, open_table, slices_of
from recray.data.sources.tables.times import TICKS_PER_S, TimeUnit, times_of
from recray.schema import DataError

log = logging.getLogger(__name__)

_ROLES: tuple[Role, ...] = ("user", "item", "rating", "timestamp", "event_type", "session")
SIDES: tuple[Literal["user"], Literal["item"]] = ("user", "item")
_DECIDING = (
    *("separator", "encoding", "quotes", "header", "time_unit", "time_format", "decimal", "ids"),
    *("anonymous", "item_id", "user_id", "item_types", "user_types"),
)
"""Options that are written down as they are."""
_EARLIEST_S = 1_000_000_000  # September 2001: smaller numbers are rather counts than unix seconds


@dataclass(frozen=True, kw_only=True)
class InteractionTable:
    """Events in one table, of one file or many.

    A column left at None is looked for under its usual names (``user_id``, ``movieId``, ``ts``...); an
    empty name says that there is none; a number is a position, from 1. Without a rating (or a count, such
    as ``plays``) every interaction counts 1; without a timestamp the order of the rows is the order of time.
    """

    path: Path | str  # of a file or folder, a glob, or an address such as s3://bucket/events/
    name: str = ""  # "": the path's last part and eight letters of its digest
    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None
    event_type: str | None = None
    session: str | None = None  # read where sessions stand for users
    separator: str | None = None  # None: found out
    encoding: str | None = None  # None: by the byte-order mark, else UTF-8
    quotes: Literal["auto", "no"] = "auto"
    header: Literal["auto", "yes", "no"] = "auto"
    time_unit: TimeUnit | None = None  # None: by the range of all times
    time_format: str | None = None  # as strftime writes it, e.g. %d.%m.%Y %H:%M
    decimal: DecimalMark | None = None  # before decimals in text; None: found out
    ids: Literal["auto", "text"] = "auto"  # auto: numbers where all of them are
    anonymous: Anonymous = "refuse"  # rows without a user
    rating_range: tuple[float, float] | None = None  # ratings outside are counted in the quality report
    items: str | None = None  # a table of the items, told from the folder of the events
    users: str | None = None
    item_id: str | None = None  # its column of ids
    user_id: str | None = None
    item_types: str = ""  # brand:category,price:number; those of other columns are found out
    user_types: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or unique_name(self.path))
        if self.time_unit not in (None, *TICKS_PER_S):
            raise ConfigError(f"time_unit must be one of {', '.join(TICKS_PER_S)}, got {self.time_unit!r}")
        if self.decimal not in (None, *DECIMAL_MARKS):
            raise ConfigError(f"decimal must be . or , (the mark before decimals), got {self.decimal!r}")
        self._dialect()
        self._types("item"), self._types("user")

    @property
    def reader(self) -> str:
        return "table"

    def _dialect(self) -> Dialect:
        return Dialect(
            separator=self.separator, encoding=self.encoding, quotes=self.quotes, header=self.header
        )

    def _types(self, role: Literal["item", "user"]) -> dict[str, SideType]:
        return parse_types(self.item_types if role == "item" else self.user_types)

    def options(self) -> dict[str, Any]:
        tables = {"files": self.path} | {
            key: beside(self.path, where)
            for key, where in (("items", self.items), ("users", self.users))
            if where
        }
        return {
            **{
                key: [file.fingerprint() for file in list_files(where, TABLES)]
                for key, where in tables.items()
            },
            "columns": {role: getattr(self, role) for role in _ROLES},
            **{key: getattr(self, key) for key in _DECIDING},
        }

    def _reading(self) -> Reading:
        return Reading(
            time_unit=self.time_unit,
            time_format=self.time_format,
            ids_as_text=self.ids == "text",
            decimal=self.decimal,
            anonymous=self.anonymous,
        )

    def read(self, scratch: Path) -> RawTables:
        events = read_events(self._parts(scratch), self._reading())
        told = self._beside(events.rows, scratch)
        return replace(
            told,
            interactions=events.rows.select(~pl.selectors.starts_with(SIDE)),
            times=ABSOLUTE_TIMES if events.ticks_per_s else ROW_NUMBERS,
            ticks_per_s=events.ticks_per_s or 1,
            notes=(*events.notes, *told.notes),
        )

    def slices(self, scratch: Path, rows: int) -> list[TableSlice]:
        found, first_row = list[TableSlice](), 0
        for part in self._parts(scratch):
            if part.sides:
                raise DataError(
                    f"{part.file.label}: what {', '.join(part.sides)} says of the items is gathered from all "
                    "events: name a table of the items (items=) and leave the columns out, or leave the "
                    "reader at memory"
                )
            for table, count in slices_of(part.file, rows):
                found.append(TableSlice(part._replace(file=table), self._reading(), first_row))
                first_row += count
        if not found:
            raise DataError(f"{self.path}: no rows (0 rows); are the files complete?")
        return found

    def beside(self, users: pl.Series, items: pl.Series, scratch: Path) -> RawTables:
        no_rows = pl.DataFrame({"user": users.clear(), "item": items.clear()})
        return self._beside(no_rows, scratch, {"user": users, "item": items})

    def _beside(
        self, events: pl.DataFrame, scratch: Path, ids: Mapping[str, pl.Series] | None = None
    ) -> RawTables:
        """The tables of users and items.

        Args:
            ids: of the events; None: those of the rows.
        """
        ids = ids or {"user": events["user"], "item": events["item"]}
        if not len(ids["user"]):
            raise DataError(f"{self.path}: no row has a user, so none is left")
        users, items = (self._side(role, ids[role], events, scratch) for role in SIDES)
        return RawTables(
            interactions=events.clear(),
            users=users.table,
            items=items.table,
            rating_range=self.rating_range,
            catalogue=self.items is not None,
            notes=(*users.notes, *items.notes),
            side_types={
                **{f"user.{name}": kind for name, kind in users.schema.items()},
                **{f"item.{name}": kind for name, kind in items.schema.items()},
            },
        )

    def _parts(self, scratch: Path) -> list[Part]:
        """The files, and which of their columns are read; the unused ones are named once."""
        given = {role: getattr(self, role) for role in _ROLES}
        roles = _ROLES if self.anonymous == "session" else _ROLES[:-1]
        by_position = any(str(name).isdecimal() for name in given.values())
        parts: list[Part] = []
        for raw in list_files(self.path, TABLES):
            file = open_table(
                raw,
                self._dialect(),
                scratch,
                is_header=lambda fields: not by_position or names_columns(fields),
                text=True,
            )
            columns = columns_by_role(
                file.names, given, roles, label=file.label, partitions=raw.partitions.keys()
            )
            if not parts and "timestamp" not in columns and given["timestamp"] is None:
                given["timestamp"] = self._guessed_time(file, columns)
                columns |= {"timestamp": given["timestamp"]} if given["timestamp"] else {}
            parts.append(Part(file, columns, side_columns(file.names, columns)))
        told = ", ".join(f"{role} is {column!r}" for role, column in parts[0].roles.items())
        log.info("%s: %s", self.path, told)
        used = {*parts[0].roles.values(), *parts[0].sides}
        unused = ", ".join(name for name in parts[0].file.names if name not in used) or "none"
        if "timestamp" not in parts[0].roles:
            log.warning(
                "%s has no column of times (unused columns: %s; name it as %s?timestamp=NAME): "
                "the order of its rows is taken as the order of time",
                *(self.path, unused, Path(self.path).name),
            )
        elif unused != "none":
            log.info("%s: columns that are not used: %s", self.path, unused)
        return parts

    def _guessed_time(self, file: TableFile, columns: Mapping[Role, str]) -> str | None:
        """The only column that is called as times are, where all its values are times."""
        name = only_time([name for name in file.names if name not in columns.values()])
        if name is None:
            return None
        try:
            found = times_of(file.read([name])[name], unit=self.time_unit, form=self.time_format)
        except BadValueError:
            return None
        if bounds(found.ticks)[0] < _EARLIEST_S * found.ticks_per_s:
            return None
        log.warning(
            "%s: times are taken from %r, the only column called so; timestamp= (nothing) leaves it out",
            *(self.path, name),
        )
        return name

    def _side(
        self, role: Literal["user", "item"], ids: pl.Series, events: pl.DataFrame, scratch: Path
    ) -> SideTable:
        """The table of that name, and what the newest events of an item say that it does not."""
        where = self.items if role == "item" else self.users
        types = self._types(role)
        beside_events = [name for name in events.columns if name.startswith(SIDE) and role == "item"]
        told = SideTable(no_side_table(), {})
        if where:
            place = beside(self.path, where)
            id_column, in_events = (self.item_id, self.item) if role == "item" else (self.user_id, self.user)
            told = read_side_table(
                place,
                role,
                scratch,
                id_column=id_column,
                id_in_events=in_events,
                types=types,
                as_text=self.ids == "text",
                encoding=self.encoding,
                decimal=self.decimal,
            )
            require_known(told, ids.unique().cast(pl.String), role, place)
        beside_names = [name.removeprefix(SIDE) for name in beside_events]
        require_columns(types, [*told.names, *beside_names], f"{role}_types")
        new = [n for n in beside_events if stored_name(n.removeprefix(SIDE)) not in told.table.columns]
        if len(new) < len(beside_events):
            log.info(
                "%s: %s of the events, which are not used, stand there too", where, _bare(beside_events, new)
            )
        if not new:
            return told
        newest = newest_values(events, new).rename(lambda name: name.removeprefix(SIDE))
        more = by_type(newest.drop("raw_id"), types, role="item", label=str(self.path), decimal=self.decimal)
        table = pl.DataFrame([newest["raw_id"], *more.table])
        changed = changed_values(events, new)
        for note in changed:
            log.warning("%s: %s", self.path, note)
        if where:
            table = told.table.join(
                table, on="raw_id", how="full", coalesce=True, maintain_order="left_right"
            )
        return SideTable(table, told.schema | more.schema, (*told.notes, *more.notes, *changed))


def _bare(columns: Sequence[str], without: Sequence[str]) -> str:
    return ", ".join(name.removeprefix(SIDE) for name in columns if name not in without)


def side_columns(names: Sequence[str], columns: dict[Role, str]) -> list[str]:
    """Columns beside events that say something of the item."""
    free = [name for name in names if name not in columns.values()]
    # A field of an object says of the item what the object is called for: price.amount.
    return [name for name in free if plain_name(name.partition(".")[0]) in ITEM_COLUMNS]
