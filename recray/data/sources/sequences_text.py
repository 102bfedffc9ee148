"""Sequence text: a line is a user and then its items, oldest first, separated by spaces.

After a tab may follow as many numbers as there are items: seconds since the user's previous action.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from recray.data.source import TIMES_PER_USER, RawTables, no_side_table
from recray.data.sources.checks import time_problem
from recray.data.sources.raw_files import find_raw, fingerprint, require_file, where_to_put
from recray.data.sources.tables import numbers_where_all_are
from recray.schema import DataError


class _Line(NamedTuple):
    user: str
    items: list[str]
    times: list[int]  # seconds since the user's first action; positions where there are no gaps


@dataclass(frozen=True, kw_only=True)
class SequenceText:
    """``path`` None: ``<name>/<file>`` in the raw folders.

    Times are comparable within a user only, which the manifest says and the global-time split
    refuses. ``item_text`` (tab separated: item, further columns, text) and ``item_attributes`` (JSON:
    item -> list of category ids) are read from the same folder where they exist.
    """

    name: str
    path: Path | None = None
    file: str = "sequences_with_gaps.txt"

    @property
    def reader(self) -> str:
        return "sequence-text"

    def options(self) -> dict[str, Any]:
        return {"file": fingerprint(self.path) if self.path else f"{self.name}/{self.file}"}

    def read(self, scratch: Path) -> RawTables:
        path = self._locate()
        require_file(path)
        lines = list(_read_lines(path))
        if not lines:
            raise DataError(f"{path} has no line with a user and items")
        events = pl.DataFrame(
            {
                "user": [line.user for line in lines for _ in line.items],
                "item": [item for line in lines for item in line.items],
                "timestamp": [time for line in lines for time in line.times],
            },
            schema_overrides={"timestamp": pl.Int64},
        )
        ids = [numbers_where_all_are(events[role]) for role in ("user", "item")]
        return RawTables(
            interactions=events.select(*ids, pl.lit(1.0, pl.Float32).alias("rating"), "timestamp"),
            items=_item_table(path.parent),
            times=TIMES_PER_USER,
        )

    def _locate(self) -> Path:
        if self.path is not None:
            return self.path
        found = find_raw(f"{self.name}/{self.file}")
        if found is None:
            raise DataError(f"{self.name} is not at hand: {where_to_put(f'{self.name}/{self.file}')}")
        return found


def _read_lines(path: Path) -> Iterator[_Line]:
    with path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            try:
                text = data.decode("utf-8").strip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: byte 0x{data[error.start]:02x} is not utf-8: "
                    "save the file as UTF-8"
                ) from error
            if text.strip():
                yield _parse_line(text, f"{path}, line {number}")


def _parse_line(text: str, where: str) -> _Line:
    sequence, tab, gaps_text = text.partition("\t")
    user, *items = sequence.split()
    if not items:
        raise DataError(f"{where}: user {user!r} has no items: drop the line")
    if not tab:
        return _Line(user, items, list(range(len(items))))
    gaps = gaps_text.split()
    if len(gaps) != len(items):
        raise DataError(f"{where}: {len(gaps)} time gaps for {len(items)} items: there must be one per item")
    for gap in gaps:
        if not gap.isdecimal():
            raise DataError(f"{where}: time gap {gap!r} is not a whole number of seconds, 0 or more")
    times = list(accumulate(map(int, gaps)))
    problem = time_problem(times[-1])
    if problem:
        raise DataError(f"{where}: the gaps add up to too much: {problem}")
    return _Line(user, items, times)


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
