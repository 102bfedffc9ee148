"""Clicks in a table of any columns, wherever and in whatever format tables of interactions may be.

The label says what was a click; all other columns are features, numbers or categories by what they hold.
A table is read into no memory: it is laid into the scratch folder, looked at column by column, and its rows
are made a few at a time.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import polars as pl

from recray.arrays import Float32s, Int8s
from recray.config import ConfigError
from recray.data.row_block import RowBlock
from recray.data.row_encoding import RowEncoding, fit_values
from recray.data.row_source import PARTS, RawRows
from recray.data.sources.clicks.columns import (
    RATINGS,
    Columns,
    Said,
    as_written,
    called,
    columns_of,
    labels_of,
    require_numbers,
    with_points,
)
from recray.data.sources.clicks.criteo import is_click_log
from recray.data.sources.clicks.cut import Cut, Split, cut
from recray.data.sources.clicks.labels import LABELS
from recray.data.sources.files.locations import is_address, list_files, unique_name
from recray.data.sources.tables.checks import BadValueError
from recray.data.sources.tables.decimals import DECIMAL_MARKS, DecimalMark
from recray.data.sources.tables.dialects import Dialect
from recray.data.sources.tables.parts import named_parts
from recray.data.sources.tables.stored_table import StoredTable, store
from recray.data.sources.tables.table_files import TABLES, names_of, open_table
from recray.data.sources.tables.times import TimeUnit, times_of
from recray.schema import DataError

log = logging.getLogger(__name__)
_BLOCK_GROUPS = 32  # are made into rows at once
_DECIDING = (
    *("label", "threshold", "time", "split", "categories", "numbers", "ignore", "min_count"),
    *("time_unit", "time_format", "decimal", "separator", "encoding", "quotes"),
)


class Clicks(NamedTuple):
    """A table whose columns are known and whose labels are right."""

    table: StoredTable
    columns: Columns
    labels_N: Float32s  # 0 or 1
    marks: Mapping[str, DecimalMark]  # before the decimals of numbers that are written with commas

    def block(self, groups: Sequence[slice], encoding: RowEncoding, part_N: Int8s, part: int) -> RowBlock:
        """The rows of a part in some of the table's groups."""
        names = (*self.columns.numbers, *self.columns.categories)
        frames, labels = [], []
        for group in groups:
            mine_N = part_N[group] == part
            if mine_N.any():
                frames.append(self.table.rows(group, names).filter(mine_N))
                labels.append(self.labels_N[group][mine_N])
        if not frames:
            return RowBlock.empty(encoding.schema())
        rows = pl.concat(frames)
        numbers = [as_written(rows[name], mark) for name, mark in self.marks.items()]
        return encoding.encode(rows.with_columns(numbers), np.concatenate(labels))


@dataclass(frozen=True, kw_only=True)
class ClickTable:
    """``path``: a file, a folder, a glob or an address; or a folder of three files: ``train``, ``validation``
    (or ``valid``, ``dev``) and ``test``.

    What has no such parts is cut 80/10/10: in order of time where it has times, else by chance. Lists of
    columns are written with commas: ``clicks.csv?label=bought&categories=hour,slot&ignore=comment``.
    """

    path: Path | str
    name: str = ""  # "": of the path
    label: str | None = None
    """Column of what was a click; None: one called label, click, target or the like."""
    threshold: float | None = None
    """Lowest label that is a click; None: labels are 0 and 1 (or true and false, yes and no)."""
    time: str | None = None
    """Column of times, which cuts the parts and is no feature; None: one called timestamp, viewed_at..."""
    split: Split = "auto"
    """auto: by time where there is one, else random. order: the rows are in order of time."""
    categories: str = ""
    """Columns that hold categories, whatever they look like."""
    numbers: str = ""
    """Columns that hold numbers."""
    ignore: str = ""
    """Columns that are no features."""
    min_count: int = 3
    """Training rows that a value needs for an id of its own; rarer ones share one."""
    time_unit: TimeUnit | None = None
    """Of times that are numbers; None: by their range."""
    time_format: str | None = None
    """Of times that are text, as %d.%m.%Y; None: ISO 8601, or what can be read in one way only."""
    decimal: DecimalMark | None = None
    """The mark before decimals of numbers with commas; None: found out, or asked for."""
    separator: str | None = None
    """None: the one by which most lines have as many fields as the first."""
    encoding: str | None = None
    quotes: Literal["auto", "no"] = "auto"
    """no: quotes are letters."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or unique_name(self.path))
        self._dialect()
        if self.split not in get_args(Split):
            raise ConfigError(f"split must be one of {', '.join(get_args(Split))}, got {self.split!r}")
        if self.decimal not in (None, *DECIMAL_MARKS):
            raise ConfigError(f"decimal must be . or , (the mark before decimals), got {self.decimal!r}")
        if self.min_count < 1:
            raise ConfigError(f"min_count must be at least 1, got {self.min_count}")
        said = [name for kind in (self.categories, self.numbers, self.ignore) for name in _listed(kind)]
        for name in said:
            if said.count(name) > 1:
                raise ConfigError(f"{name!r} stands twice among categories, numbers and ignore: say one")

    @property
    def reader(self) -> str:
        return "click-table"

    def _dialect(self) -> Dialect:
        return Dialect(separator=self.separator, encoding=self.encoding, quotes=self.quotes, header="yes")

    def options(self) -> dict[str, Any]:
        return {
            "files": [file.fingerprint() for place in self._places() for file in list_files(place, TABLES)],
            **{key: getattr(self, key) for key in _DECIDING},
        }

    def _places(self) -> list[Path | str]:
        """One, or those of the three parts.

        Raises:
            DataError: some files of a folder are named as parts, and one is missing.
        """
        found = {} if is_address(self.path) else named_parts(Path(self.path))
        for number, part in enumerate(PARTS):
            if found and number not in found:
                raise DataError(
                    f"{self.path} has no file for the {part} part: it needs train, valid and test with one "
                    f"of the endings {', '.join(TABLES)}; or name one file, which is then split"
                )
        return [path for _, path in sorted(found.items())] or [self.path]

    def open(self, scratch: Path) -> Clicks:
        """What the files hold, checked.

        Raises:
            DataError: naming the file, the line or column, and the way out.
        """
        files = [
            open_table(raw, self._dialect(), scratch, text=True)
            for place in self._places()
            for raw in list_files(place, TABLES)
        ]
        table = store(files, scratch)
        kinds = (_listed(getattr(self, kind)) for kind in ("categories", "numbers", "ignore"))
        decides = table.first(1) if len(self._places()) > 1 else table  # the training part does
        said = Said(self.label, self.time, *kinds)
        columns = columns_of(decides, said, self.time_unit, self.time_format, self.decimal)
        labels = labels_of(table, columns.label, self.threshold, self.decimal)
        marks = require_numbers(table, columns.numbers, self.decimal)
        return Clicks(table, columns, labels.to_numpy(), marks)

    def rows(self, scratch: Path) -> RawRows:
        clicks = self.open(scratch)
        table, columns = clicks.table, clicks.columns
        log.info("%s: %s", self.name, columns.text())
        made = self._cut(clicks)
        encoding = RowEncoding(
            numbers=columns.numbers,
            categories=columns.categories,
            values=tuple(
                fit_values(table.column(name).filter(made.part_N == 0), self.min_count)
                for name in columns.categories
            ),
        )
        return RawRows(
            schema=encoding.schema(),
            parts={part: _blocks(clicks, encoding, made.part_N, number) for number, part in enumerate(PARTS)},
            split=made.split,
            shuffle_train=True,
            facts={"columns": columns._asdict(), **made.facts},
            encoding=encoding,
        )

    def _cut(self, clicks: Clicks) -> Cut:
        table, time = clicks.table, clicks.columns.time
        if len(self._places()) > 1:
            part_N = np.repeat(np.arange(len(PARTS), dtype=np.int8), np.diff(table.starts))
            return Cut(part_N, "files " + ", ".join(Path(file.label).name for file in table.files), {})
        return cut(table, self.split, self._times(table, time) if time else None)

    def _times(self, table: StoredTable, name: str) -> pl.Series:
        """Whole numbers whose order is that of time.

        Raises:
            DataError: a value is no time; names its line.
        """
        try:
            found = times_of(
                with_points(table, table.column(name), self.decimal),
                unit=self.time_unit,
                form=self.time_format,
            )
        except BadValueError as bad:
            where = table.label if bad.row is None else table.where(bad.row)
            raise DataError(
                f"{where}: column {name!r}: {bad.text}; or leave it out with ignore={name}"
            ) from None
        return found.ticks.alias(name)


def _blocks(clicks: Clicks, encoding: RowEncoding, part_N: Int8s, part: int) -> Iterator[RowBlock]:
    """Rows in the order of the table; those to train on in an order of groups by chance, so that a table
    sorted by its label or its users is mixed."""
    groups = clicks.table.groups()
    if part == 0:
        groups = [groups[n] for n in np.random.default_rng(0).permutation(len(groups))]
    for start in range(0, len(groups), _BLOCK_GROUPS):
        yield clicks.block(groups[start : start + _BLOCK_GROUPS], encoding, part_N, part)


def is_click_table(place: Path | str, options: Mapping[str, object]) -> bool:
    """Whether it is a table with a label, whatever its name ends in: the label is named by ``label=``, or
    called as labels usually are.

    Ratings are asked for by what they alone have: ``user=``, ``item=``, ``rating=``, ``sessions=``.
    """
    if "label" in options:
        return True
    if options.keys() & {"user", "item", "rating", "sessions", "threshold"}:
        return False
    names = _names_at(place)
    return called(LABELS, names) is not None and called(RATINGS, names) is None


def _names_at(place: Path | str) -> Sequence[str]:
    """The columns of the first file there; none where it is no table."""
    first = place if is_address(place) else named_parts(Path(place)).get(0, place)
    if not is_address(first) and is_click_log(Path(first)):
        return ()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return names_of(list_files(first, TABLES)[0], Dialect(), Path(scratch))
        except DataError:
            if is_address(place):
                raise
            return ()  # whoever reads it as something else says what is wrong


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
