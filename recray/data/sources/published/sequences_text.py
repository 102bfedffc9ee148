"""Sequence text: a line is a user and then its items, oldest first, separated by blanks, commas or tabs.

Separated by blanks, a tab may follow and as many numbers as there are items: seconds since the user's
previous action. Without them the data has an order and no times. Further lines of a user go on where the
last one ended, so that a pair a line is read too.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from recray.data.source import POSITIONS, TIMES_PER_USER, RawTables, no_side_table
from recray.data.sources.files.locations import list_files, plain_file, unique_name
from recray.data.sources.files.raw_files import find_raw, fingerprint, require_file, where_to_put
from recray.data.sources.tables.checks import time_problem
from recray.data.sources.tables.roles import names_columns
from recray.data.sources.tables.values import numbers_where_all_are
from recray.schema import DataError


class _Line(NamedTuple):
    user: str
    items: list[str]
    gaps: list[int] | None  # seconds since the user's previous action
    where: str


@dataclass(frozen=True, kw_only=True)
class SequenceText:
    """``path`` None: ``<name>/<file>`` in the raw folders.

    With gaps, times are comparable within a user only, which the manifest says and the global-time split
    refuses; without, they are positions. ``item_text`` (tab separated: item, further columns, text) and
    ``item_attributes`` (JSON: item -> list of category ids) are read from the same folder where they exist.
    """

    name: str = ""  # "": of the path
    path: Path | None = None
    file: str = "sequences_with_gaps.txt"
    allow_empty: bool = False  # lines of a user without items are left out

    def __post_init__(self) -> None:
        if not self.name and self.path is not None:
            object.__setattr__(self, "name", unique_name(self.path))

    @property
    def reader(self) -> str:
        return "sequence-text"

    def options(self) -> dict[str, Any]:
        return {"file": fingerprint(self.path) if self.path else f"{self.name}/{self.file}"}

    def read(self, scratch: Path) -> RawTables:
        path = self._locate()
        require_file(path)
        lines = list(_read_lines(plain_file(list_files(path, ())[0], scratch), str(path)))
        kept = [line for line in lines if line.items] if self.allow_empty else lines
        if not kept:
            raise DataError(f"{path} has no line with a user and items")
        empty = next((line for line in kept if not line.items), None)
        if empty:
            raise DataError(f"{empty.where}: user {empty.user!r} has no items: drop the line")
        has_gaps = kept[0].gaps is not None
        odd = next((line for line in kept if (line.gaps is not None) != has_gaps), None)
        if odd:
            raise DataError(f"{odd.where}: {'no' if has_gaps else 'has'} time gaps, unlike the lines before")
        events = pl.DataFrame(
            {
                "user": [line.user for line in kept for _ in line.items],
                "item": [item for line in kept for item in line.items],
                "timestamp": _times(kept),
            },
            schema_overrides={"timestamp": pl.Int64},
        )
        ids = [numbers_where_all_are(events[role]) for role in ("user", "item")]
        left_out = len(lines) - len(kept)
        return RawTables(
            interactions=events.select(*ids, pl.lit(1.0, pl.Float32).alias("rating"), "timestamp"),
            items=_item_table(path.parent),
            times=TIMES_PER_USER if has_gaps else POSITIONS,
            notes=(f"{left_out:,} lines have a user without items and were left out",) if left_out else (),
        )

    def _locate(self) -> Path:
        if self.path is not None:
            return self.path
        found = find_raw(f"{self.name}/{self.file}")
        if found is None:
            raise DataError(f"{self.name} is not at hand: {where_to_put(f'{self.name}/{self.file}')}")
        return found


def _times(lines: list[_Line]) -> list[int]:
    """Of all items: seconds since the user's first action, or positions; over all lines of a user."""
    latest: dict[str, int] = {}
    times: list[int] = []
    for line in lines:
        if line.gaps is None:
            start = latest.get(line.user, -1) + 1
            new = list(range(start, start + len(line.items)))
        else:
            new = list(accumulate(line.gaps, initial=latest.get(line.user, 0)))[1:]
            problem = time_problem(new[-1])
            if problem:
                raise DataError(f"{line.where}: the gaps add up to too much: {problem}")
        latest[line.user] = new[-1]
        times += new
    return times


def _read_lines(path: Path, label: str) -> Iterator[_Line]:
    separator: str | None = None
    is_first = True
    with path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            where = f"{label}, line {number}"
            try:
                text = data.decode("utf-8-sig" if is_first else "utf-8").strip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{where}: byte 0x{data[error.start]:02x} is not utf-8: save the file as UTF-8"
                ) from error
            if not text.strip():
                continue
            if is_first:
                separator, is_first = _separator(text), False
                _refuse_header(text, separator, label)
            yield _parse_line(text, separator, where)


def _separator(text: str) -> str | None:
    """Of the first line: None for blanks, which a tab and gaps may follow."""
    before_tab, tab, _ = text.strip().partition("\t")
    if tab and " " not in before_tab:
        return "\t"
    for mark in (",", ";"):
        if mark in text and " " not in text.replace(f"{mark} ", mark).strip():
            return mark
    return None


def _refuse_header(text: str, separator: str | None, label: str) -> None:
    fields = [field.strip() for field in text.split(separator)]
    if names_columns(fields):
        raise DataError(
            f"{label}, line 1 names columns ({', '.join(fields)}), so it is a table: read it as one by "
            f"naming a column, e.g. {Path(label).name}?user={fields[0]}, or call it .csv"
        )


def _parse_line(text: str, separator: str | None, where: str) -> _Line:
    if separator is not None:
        user, *items = (field.strip() for field in text.strip().split(separator))
        if not user or not all(items):
            raise DataError(f"{where}: a user or an item is empty between two {separator!r}: fill it in")
        return _Line(user, items, None, where)
    sequence, tab, gaps_text = text.partition("\t")
    user, *items = sequence.split()
    if not tab:
        return _Line(user, items, None, where)
    gaps = gaps_text.split()
    if len(gaps) != len(items):
        raise DataError(f"{where}: {len(gaps)} time gaps for {len(items)} items: there must be one per item")
    for gap in gaps:
        if not gap.isdecimal():
            raise DataError(f"{where}: time gap {gap!r} is not a whole number of seconds, 0 or more")
    return _Line(user, items, list(map(int, gaps)), where)


def _item_table(folder: Path) -> pl.DataFrame:
    texts, attributes = folder / "item_text.tsv", folder / "item_attributes.json"
    table = no_side_table()
    if texts.is_file():
        try:
            raw = pl.read_csv(texts, separator="\t", quote_char=None, infer_schema=False)
            table = raw.select(pl.col("item_id").alias("raw_id"), pl.exclude("item_id"))
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{texts} is no tab-separated table with an item_id column ({reason})") from error
    if attributes.is_file():
        values = _read_attributes(attributes)
        categories = pl.DataFrame(
            {"raw_id": list(values), "categories": [list(map(str, v)) for v in values.values()]},
            schema={"raw_id": pl.String, "categories": pl.List(pl.String)},
        )
        table = table.join(categories, on="raw_id", how="full", coalesce=True, maintain_order="left_right")
    return table


def _read_attributes(path: Path) -> dict[str, list[int]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): fetch it again") from error
    if not isinstance(values, dict) or not all(isinstance(v, list) for v in values.values()):
        raise DataError(f"{path} must map each item to a list of category ids")
    return values
