"""RecBole's atomic files: ``<name>.inter`` with ``.item`` and ``.user`` beside it where there are.

Tab separated, with a header of ``field:type`` where type is token, token_seq, float or float_seq
(https://recbole.io/docs/user_guide/data/atomic_files.html).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recray.config import nearest
from recray.data.source import ABSOLUTE_TIMES, ROW_NUMBERS, RawTables, no_side_table
from recray.data.sources.files.locations import unique_name
from recray.data.sources.files.raw_files import fingerprint, require_file
from recray.data.sources.published.delimited import Layout, Role, header, read_events
from recray.data.sources.tables.side_types import lost_note
from recray.data.sources.tables.values import numbers_where_all_are
from recray.schema import DataError

_TYPES = ("token", "token_seq", "float", "float_seq")
_ROLES: dict[str, Role] = {"user_id": "user", "item_id": "item", "rating": "rating", "timestamp": "timestamp"}
# What RecBole's own data sets call the columns that have a name of their own here.
_COLUMN_NAMES = {"movie_title": "title", "class": "genres", "genre": "genres", "release_year": "year"}


@dataclass(frozen=True, kw_only=True)
class RecBole:
    """``path`` is the ``.inter`` file."""

    path: Path
    name: str = ""  # "": of the path

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or unique_name(self.path))

    @property
    def reader(self) -> str:
        return "recbole"

    def options(self) -> dict[str, Any]:
        beside = [self.path.with_suffix(suffix) for suffix in (".item", ".user")]
        return {
            "files": [
                fingerprint(path) for path in (self.path, *beside) if path == self.path or path.is_file()
            ]
        }

    def read(self, scratch: Path) -> RawTables:
        require_file(self.path)
        layout = Layout(columns={}, dtypes={}, separator="\t", quoted=False)
        fields = _typed_header(self.path, layout)
        columns = {role: f"{name}:{fields[name]}" for name, role in _ROLES.items() if name in fields}
        for name in ("user_id", "item_id"):
            if name not in fields:
                raise DataError(f"{self.path}: no column {name!r}{nearest(name, fields)}")
        dtypes = {role: pl.Float64 if role in ("rating", "timestamp") else pl.String for role in columns}
        layout = Layout(columns=columns, dtypes={**dtypes}, separator="\t", quoted=False)
        events = read_events(self.path, layout, label=str(self.path))
        users, of_users = _side_table(self.path.with_suffix(".user"), "user_id")
        items, of_items = _side_table(self.path.with_suffix(".item"), "item_id")
        return RawTables(
            interactions=events.with_columns(
                numbers_where_all_are(events[role]) for role in ("user", "item")
            ),
            users=users,
            items=items,
            notes=(*of_users, *of_items),
            times=ABSOLUTE_TIMES if "timestamp" in columns else ROW_NUMBERS,
        )


def _typed_header(path: Path, layout: Layout) -> dict[str, str]:
    """Type of each field by name, in order."""
    fields: dict[str, str] = {}
    for column in header(path, layout, label=str(path)):
        name, _, kind = column.partition(":")
        if kind not in _TYPES:
            raise DataError(
                f"{path}, line 1: {column!r} is not name:type with a type of {', '.join(_TYPES)}; "
                "is it an atomic file?"
            )
        fields[name] = kind
    return fields


def _side_table(path: Path, id_column: str) -> tuple[pl.DataFrame, list[str]]:
    """The columns by their types, and notes on values that are no numbers and are left empty."""
    if not path.is_file():
        return no_side_table(), []
    fields = _typed_header(path, Layout(columns={}, dtypes={}, separator="\t", quoted=False))
    if id_column not in fields:
        raise DataError(f"{path}: no column {id_column!r}{nearest(id_column, fields)}")
    try:
        table = pl.read_csv(
            path,
            glob=False,
            separator="\t",
            quote_char=None,
            schema=dict.fromkeys(fields, pl.String),
            has_header=False,
            skip_lines=1,
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}") from error
    side = table.select(
        pl.col(id_column).alias("raw_id"),
        *(_side_column(name, kind) for name, kind in fields.items() if name != id_column),
    )
    numbers = [name for name, kind in fields.items() if kind == "float" and name in side.columns]
    lost = {name: table[name].filter(side[name].is_null() & table[name].is_not_null()) for name in numbers}
    return side, [f"{path.name}: {note}" for name in numbers if (note := lost_note(name, lost[name]))]


def _side_column(name: str, kind: str) -> pl.Expr:
    target, column = _COLUMN_NAMES.get(name, name), pl.col(name)
    if target == "year":
        column = column.str.extract(r"(\d{4})").cast(pl.Int32)
    elif kind == "float":
        column = column.cast(pl.Float64, strict=False)
    elif kind == "token_seq" and target not in ("title", "text"):
        column = column.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    elif kind == "float_seq":
        column = column.str.split(" ").list.eval(pl.element().cast(pl.Float64, strict=False))
    return column.alias(target)
