"""Tables that say something of items or users, beside the events: their ids, and every column by its type."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from recray.config import nearest
from recray.data.sources.files.locations import list_files
from recray.data.sources.tables.checks import BadValueError
from recray.data.sources.tables.decimals import DecimalMark
from recray.data.sources.tables.dialects import Dialect
from recray.data.sources.tables.joined import joined, pieces_of
from recray.data.sources.tables.roles import ALIASES, names_columns, plain_name
from recray.data.sources.tables.side_types import SideType, stripped, type_of, typed
from recray.data.sources.tables.table_files import TABLES, open_table
from recray.data.sources.tables.values import ids_of, plain_ids
from recray.features.columns import AVAILABILITY, availability
from recray.schema import DataError

log = logging.getLogger(__name__)

_TITLES = (
    "productname",
    "itemname",
    "name",
    "movietitle",
    "produktname",
    "artikelname",
    "bezeichnung",
)  # called title where no column is already


class SideTable(NamedTuple):
    table: pl.DataFrame  # raw_id String, then the columns
    schema: dict[str, str]  # column -> its type
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # the columns as the file calls them, ids left out


def read_side_table(
    location: str,
    role: Literal["user", "item"],
    scratch: Path,
    *,
    id_column: str | None = None,
    id_in_events: str | None = None,
    types: Mapping[str, SideType],
    as_text: bool = False,
    encoding: str | None = None,
    decimal: DecimalMark | None = None,
) -> SideTable:
    """
    Args:
        id_in_events: what the events were said to call the id.
        types: of columns whose type is not to be found out.
        encoding: of the events; taken for a table that has no byte-order mark and is not UTF-8.
        as_text: the events keep ids such as ``7.0`` as they are, so these do.

    Raises:
        DataError: no column of ids, or two; an id is missing; the file is wrong.
    """
    frames, labels = [], []
    for file in list_files(location, TABLES):
        table = open_table(
            file, Dialect(otherwise=encoding), scratch, is_header=lambda fields: not _all_numbers(fields)
        )
        frames.append(table.read(table.names))
        labels.append(table.label)
    names = list(dict.fromkeys(name for frame in frames for name in frame.columns))
    if not any(map(len, frames)):
        raise DataError(f"{location}: no rows; is the file complete?")
    id_name = _id_column(names, role, id_column, id_in_events, location)
    try:
        plain = [plain_ids(column, role) for column in pieces_of(id_name, frames)]
        ids = ids_of(joined(plain, labels), role, as_text=as_text)
    except BadValueError as bad:
        raise DataError(f"{location}: column {id_name!r}: {bad.text}") from None
    frame = pl.DataFrame([joined(pieces_of(name, frames), labels) for name in names])
    raw_ids = ids.values.cast(pl.String)
    missing = raw_ids.null_count()
    if missing:
        frame, raw_ids = frame.filter(raw_ids.is_not_null()), raw_ids.drop_nulls()
    found = by_type(frame.drop(id_name), types, role=role, label=location, decimal=decimal)
    repeated = len(raw_ids) - raw_ids.n_unique()
    said = [f"{Path(location).name}: {note}" for note in ids.notes]
    if missing:
        said.append(f"{location}: rows without an id were left out: {missing:,}")
    if repeated:
        said.append(f"{location}: rows that repeat an id: {repeated:,}; the first of each {role} counts")
    table_of_all = pl.DataFrame([raw_ids.alias("raw_id"), *found.table])
    return SideTable(table_of_all, found.schema, (*said, *found.notes), found.names)


def by_type(
    frame: pl.DataFrame,
    types: Mapping[str, SideType],
    *,
    role: Literal["user", "item"],
    label: str,
    decimal: DecimalMark | None = None,
) -> SideTable:
    """Every column as its type, stated or found; the schema is logged, and what was lost is noted.

    Raises:
        DataError: nothing in a column is of the type stated for it, or its prices can be read in two ways.
    """
    columns: list[pl.Series] = []
    schema: dict[str, str] = {}
    notes: list[str] = []
    left_out: list[str] = []
    for column in frame:
        kind = types.get(column.name) or type_of(column)
        if kind == "none" and column.name not in types:
            left_out.append(column.name)
        if kind == "none" or column.name in ("", "raw_id"):
            continue
        name = _name_of(column.name, frame.columns) if role == "item" else stored_name(column.name)
        try:
            values, note = typed(column, kind, decimal)
        except BadValueError as bad:
            raise DataError(f"{label}: column {column.name!r}: {bad.text}") from None
        if column.name in types:
            _require_some(column, values, kind, label)
        values = values.alias(name)
        columns.append(values)
        schema[name] = kind
        said = (note, _availability_note(values) if role == "item" else "")
        notes += [f"{Path(label).name}: {each}" for each in said if each]
    if left_out:
        notes.append(
            f"{Path(label).name}: left out, as they hold lists of objects or bytes: {', '.join(left_out)}"
        )
        log.warning("%s: write what matters in them as columns of their own", notes[-1])
    if schema:
        log.info("%s: %s", label, ", ".join(f"{name} is {_a(kind)}" for name, kind in schema.items()))
    return SideTable(pl.DataFrame(columns), schema, tuple(notes), tuple(frame.columns))


def _availability_note(values: pl.Series) -> str:
    """What a column that says whether an item can be had is taken for, where it could be meant otherwise."""
    if values.name not in AVAILABILITY or values.dtype == pl.Boolean:
        return ""
    if availability(values) is not None:
        return f"{values.name} is a count: an item is available where it is above 0"
    return (
        f"{values.name} ({values.dtype}) says neither true or false nor a count, so no item can be "
        "served by it: write it as one of these, or serve with --service.rules.available.no-enforced"
    )


def _require_some(column: pl.Series, values: pl.Series, kind: SideType, label: str) -> None:
    texts = column.drop_nulls()
    if column.dtype == pl.String:
        texts = stripped(texts).drop_nulls()
    if len(texts) and values.null_count() == len(values):
        raise DataError(
            f"{label}: column {column.name!r} is stated to be {_a(kind)}, but none of its {len(texts):,} "
            f"values is (the first is {str(texts[0])!r}): state another type, or none and it is found out"
        )


def _a(kind: str) -> str:
    return kind if kind == "text" else f"a {kind}"


def stored_name(name: str) -> str:
    """Modules of a model may have no dots in their names."""
    return name.replace(".", "_")


def _name_of(name: str, names: Iterable[str]) -> str:
    taken = {each.lower() for each in names}
    return "title" if plain_name(name) in _TITLES and "title" not in taken else stored_name(name)


def _all_numbers(fields: list[str]) -> bool:
    return not names_columns(fields) and all(field.strip().replace(".", "").isdecimal() for field in fields)


def _id_column(
    names: list[str], role: Literal["user", "item"], wanted: str | None, in_events: str | None, location: str
) -> str:
    option = f"{role}_id"
    if wanted is not None:
        if wanted in names:
            return wanted
        raise DataError(f"{location}: no column {wanted!r} for {option}{nearest(wanted, names)}")
    if in_events in names and not in_events.isdecimal():  # a position is one in the events
        return in_events
    for usual in (ALIASES[role], ("id", "rawid")):
        fitting = [name for name in names if plain_name(name) in usual]
        if len(fitting) > 1:
            raise DataError(
                f"{location}: the columns {' and '.join(map(repr, fitting))} could each be the {role}: say "
                f"which, e.g. {option}={fitting[0]}"
            )
        if fitting:
            return fitting[0]
    raise DataError(
        f"{location}: no column of {role} ids (it has {', '.join(names)}): name it with {option}="
    )


def require_known(side: SideTable, raw_ids: pl.Series, role: str, location: str) -> None:
    """Says how many of the events' ids the table describes.

    Raises:
        DataError: it describes none of them.
    """
    known = int(raw_ids.is_in(side.table["raw_id"].implode()).sum())
    if known == 0:
        raise DataError(
            f"{location} describes none of the {len(raw_ids):,} {role}s of the events (its first id is "
            f"{side.table['raw_id'][0]!r}, the events' {raw_ids[0]!r}): name its ids with {role}_id="
        )
    log.info("%s: %s of %s %ss of the events described", location, f"{known:,}", f"{len(raw_ids):,}", role)


def changed_values(events: pl.DataFrame, columns: list[str]) -> list[str]:
    """A word on each column of the events of which some item had several values."""
    counts = events.group_by("item").agg(pl.col(columns).drop_nulls().n_unique())
    several = {name.removeprefix("item."): int((counts[name] > 1).sum()) for name in columns}
    return [
        f"{name} of {count:,} items changed from event to event: the newest is taken, as of now, and past "
        "requests are told it too"
        for name, count in several.items()
        if count
    ]


def newest_values(events: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """The last value of each column that each item has in the events: ``raw_id`` and the columns.

    Args:
        events: ``item``, ``timestamp`` and the columns; ties keep their order.
    """
    ordered = events.select("item", "timestamp", *columns).sort("timestamp", maintain_order=True)
    newest = ordered.group_by("item", maintain_order=True).agg(pl.col(columns).drop_nulls().last())
    return newest.select(pl.col("item").cast(pl.String).alias("raw_id"), *columns)
