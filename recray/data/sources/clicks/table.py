"""Clicks in a table of any columns, in every format and dialect that tables of interactions have.

The label says what was a click; all other columns are features, numbers or categories by what they hold.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import polars as pl
import pyarrow as pa

from recray.arrays import Int64s
from recray.config import ConfigError, nearest
from recray.data.row_encoding import NO_NUMBER, RowEncoding, as_categories, fit_values, no_numbers
from recray.data.row_source import PARTS, RawRows
from recray.data.sources.clicks.criteo import is_click_log
from recray.data.sources.clicks.labels import FIGURES, LABELS, plain, require_one
from recray.data.sources.clicks.times import names_time, time_columns
from recray.data.sources.files.locations import kind_of, list_files, unique_name
from recray.data.sources.tables.checks import BadValueError, first_row
from recray.data.sources.tables.dialects import Dialect
from recray.data.sources.tables.parts import benchmark_parts
from recray.data.sources.tables.table_files import TABLES, TableFile, open_table
from recray.data.sources.tables.times import TimeUnit, times_of
from recray.schema import DataError

log = logging.getLogger(__name__)
Split = Literal["auto", "time", "order", "random"]
TIMES = ("timestamp", "time", "ts", "datetime", "eventtime", "date", "unixtime")
SHARES = (0.8, 0.9)  # where validation and test begin
_ID = r"(?i)(^|[_\s])(id|code|zip)$|[a-z](Id|ID)$"  # numbers that name things
_START_BYTES = 1 << 20  # of a text: holds the names of its columns
_MOSTLY = 0.95  # a column with so many numbers was meant to hold nothing else
_DECIDING = (
    *("label", "threshold", "time", "split", "categories", "numbers", "ignore", "min_count"),
    *("time_unit", "time_format", "separator", "encoding", "quotes"),
)


class Columns(NamedTuple):
    """What the columns of a table are for."""

    label: str
    time: str | None
    numbers: tuple[str, ...]
    categories: tuple[str, ...]

    def said(self) -> str:
        numbers, categories = (", ".join(names) or "none" for names in (self.numbers, self.categories))
        return (
            f"label: {self.label}; time: {self.time or 'none'}; numbers: {numbers}; categories: {categories}"
        )

    def checked(self, file: TableFile, table: pl.DataFrame, threshold: float | None) -> pl.DataFrame:
        """The columns that are used, the label as 0 and 1.

        Raises:
            DataError: a column that is missing, or the line of a value that is wrong.
        """
        for name in (self.label, *self.numbers, *self.categories):
            if name not in table.columns:
                raise DataError(f"{file.label}: no column {name!r}, which {self.label} is predicted from")
        for name in self.numbers:
            way_out = f"which is no number that fits 32 bits: correct it, or say categories={name}"
            refuse(file, no_numbers(table[name]), table[name], way_out)
        return table.with_columns(_labels(file, table[self.label], threshold))


class Tables(NamedTuple):
    """A table as its files have it: one, or those of training, validation and test."""

    columns: Columns
    files: list[TableFile]
    checked: list[pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class ClickTable:
    """``path``: a file, or a folder of three: ``train``, ``validation`` (or ``valid``, ``dev``) and ``test``.

    One file is cut 80/10/10: in order of time where it has times, else by chance. Lists of columns are
    written with commas: ``clicks.csv?label=bought&categories=hour,slot&ignore=comment``.
    """

    path: Path
    name: str = ""  # "": of the path
    label: str | None = None
    """Column of what was a click; None: one called label, click, target or the like."""
    threshold: float | None = None
    """Lowest label that is a click; None: labels are 0 and 1 (or true and false, yes and no, y, n, t, f)."""
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
            "files": [file.fingerprint() for path in self._paths() for file in list_files(path, TABLES)],
            **{key: getattr(self, key) for key in _DECIDING},
        }

    def _paths(self) -> list[Path]:
        """One, or those of the three parts.

        Raises:
            DataError: a folder without a file for a part.
        """
        if not self.path.is_dir():
            return [self.path]
        found = benchmark_parts(self.path)
        for number, part in enumerate(PARTS):
            if number not in found:
                raise DataError(
                    f"{self.path} has no file for the {part} part: it needs train, valid and test with one "
                    f"of the endings {', '.join(TABLES)}; or name one file, which is then split"
                )
        return [found[number] for number in range(len(PARTS))]

    def tables(self, scratch: Path) -> Tables:
        """What the files hold, checked.

        Raises:
            DataError: naming the file, the line or column, and the way out.
        """
        files = [
            open_table(raw, self._dialect(), scratch, text=True)
            for path in self._paths()
            for raw in list_files(path, TABLES)
        ]
        tables = [_read(file) for file in files]
        columns = self._columns(files[0], tables[0])
        checked = (columns.checked(*each, self.threshold) for each in zip(files, tables, strict=True))
        return Tables(columns, files, list(checked))

    def times(self, file: TableFile, column: pl.Series) -> Int64s:
        """Whole numbers whose order is that of time.

        Raises:
            DataError: a value is no time; names its line.
        """
        try:
            found = times_of(column, unit=self.time_unit, form=self.time_format)
        except BadValueError as bad:
            where = file.label if bad.row is None else file.where(bad.row)
            raise DataError(
                f"{where}: column {column.name!r}: {bad.text}; or leave it out with ignore={column.name}"
            ) from None
        ticks_N: Int64s = found.ticks.to_numpy()
        return ticks_N

    def rows(self, scratch: Path) -> RawRows:
        columns, files, tables = self.tables(scratch)
        facts: dict[str, Any] = {"columns": columns._asdict()}
        split = "files " + ", ".join(Path(file.label).name for file in files)
        if len(tables) == 1:
            places, split = self._cut(files[0], tables[0], columns.time)
            if columns.time:
                times_N = self.times(files[0], tables[0][columns.time])
                train, _, test = (times_N[place] for place in places)
                facts["tests_before_training_ends"] = float((test < train.max(initial=test[0])).mean())
            tables = [tables[0][place] for place in places]
        encoding = RowEncoding(
            numbers=columns.numbers,
            categories=columns.categories,
            values=tuple(fit_values(tables[0][name], self.min_count) for name in columns.categories),
        )
        log.info(
            "%s: label %s, time %s, %s", self.name, columns.label, columns.time or "none", columns.said()
        )
        blocks = [encoding.encode(table, table[columns.label].to_numpy()) for table in tables]
        return RawRows(
            schema=encoding.schema(),
            parts={part: [block] for part, block in zip(PARTS, blocks, strict=True)},
            split=split,
            shuffle_train=True,
            facts=facts,
            encoding=encoding,
        )

    def _columns(self, file: TableFile, table: pl.DataFrame) -> Columns:
        """What each column is for; the training part decides where nobody said."""
        names = table.columns
        label = self.label or _called(LABELS, names)
        if label is None:
            raise DataError(
                f"{file.label}: no column says what was a click (it has {', '.join(names)}): name it "
                "with label="
            )
        if self.label is None:
            require_one(label, names, file.label)
        said = {kind: _listed(getattr(self, kind)) for kind in ("categories", "numbers", "ignore")}
        free = [name for name in names if name != label and name not in chain(*said.values())]
        time = self.time or _called(TIMES, free) or self._guessed_time(file, table.select(free))
        for name in (label, *filter(None, [time]), *(n for listed in said.values() for n in listed)):
            if name not in names:
                raise DataError(f"{file.label}: no column {name!r}{nearest(name, names)}")
        # A column without a name is the row numbers of whoever wrote the file.
        features = [name for name in names if name not in (label, time, "", *said["ignore"])]
        numbers = [
            name
            for name in features
            if name in said["numbers"]
            or (name not in said["categories"] and holds_numbers(file, table[name]))
        ]
        if not features:
            raise DataError(f"{file.label}: no column is left for a feature beside {label}")
        categories = tuple(name for name in features if name not in numbers)
        return Columns(label, time, tuple(numbers), categories)

    def _guessed_time(self, file: TableFile, table: pl.DataFrame) -> str | None:
        """The only column of times that is named as one; says which others could be meant."""
        times = time_columns(table, self.time_unit, self.time_format)
        named = [name for name in times if names_time(name)]
        if len(named) == 1:
            return named[0]
        if times:
            log.warning(
                "%s: %s could be the time of a row: name it with time=", file.label, " or ".join(times)
            )
        return None

    def _cut(self, file: TableFile, table: pl.DataFrame, time: str | None) -> tuple[list[Int64s], str]:
        """Which rows are for what, in the order of the file or of time."""
        if self.split == "time" and time is None:
            raise DataError(f"{file.label}: no column of times to split by: name it with time=")
        rows = np.arange(len(table))
        if self.split == "random" or (self.split == "auto" and time is None):
            if self.split == "auto":
                log.warning(
                    "%s has no column of times: its rows are split by chance, which lets a model look into "
                    "the future if they have an order; name the column with time=, or say split=order",
                    file.label,
                )
            rows = np.random.default_rng(0).permutation(rows)
            cuts = [round(share * len(rows)) for share in SHARES]
            return [np.sort(part) for part in np.split(rows, cuts)], "random(0.8,0.1,0.1,seed=0)"
        cuts = [round(share * len(rows)) for share in SHARES]
        if self.split != "order" and time is not None:
            times_N = self.times(file, table[time])
            rows = np.argsort(times_N, kind="stable")
            # Rows of one moment are never on both sides of a cut.
            cuts = np.searchsorted(times_N[rows], times_N[rows][cuts]).tolist()
            if not 0 < cuts[0] < cuts[1]:
                raise DataError(
                    f"{file.label}: {time} has too few different times to cut it 80/10/10: name another "
                    "column with time=, or say split=order or split=random"
                )
        return np.split(rows, cuts), "global-time(0.8,0.1,0.1)"


def is_click_table(path: Path, options: Mapping[str, object]) -> bool:
    """Whether it is a table with a label: named by ``label=``, or called as labels usually are.

    Ratings are asked for by what they alone have: ``user=``, ``item=``, ``rating=``, ``sessions=``.
    """
    if "label" in options:
        return path.is_dir() or kind_of(path.name) in TABLES
    if options.keys() & {"user", "item", "rating", "sessions", "threshold"}:
        return False
    if path.is_dir():
        path = benchmark_parts(path).get(0, path)
    if not path.is_file() or kind_of(path.name) not in TABLES or is_click_log(path):
        return False
    names = _names(path)
    return _called(LABELS, names) is not None and _called(("rating", "stars", "score"), names) is None


def _names(path: Path) -> list[str]:
    """The columns of a table, without unpacking or reading all of it."""
    with tempfile.TemporaryDirectory() as name:
        scratch, label = Path(name), str(path)
        if kind_of(path.name) not in (".parquet", ".json"):
            with pa.input_stream(str(path)) as stream:
                start: bytes = stream.read(_START_BYTES)
            path = scratch / f"start{kind_of(path.name)}"
            path.write_bytes(start if len(start) < _START_BYTES else start.rpartition(b"\n")[0])
        raw = replace(list_files(path, TABLES)[0], label=label)
        return list(open_table(raw, Dialect(), scratch).names)


def refuse(file: TableFile, bad: pl.Series, column: pl.Series, why: str) -> None:
    """
    Raises:
        DataError: there is a bad value; names the first of them and where it stands.
    """
    if bad.any():
        row = first_row(bad)
        raise DataError(f"{file.where(row)}: {column.name} is {column[row]!r}, {why}")


def _read(file: TableFile) -> pl.DataFrame:
    """All columns of every row; text as text."""
    table = file.read(file.names)
    if not len(table):
        raise DataError(f"{file.label} has no rows below the names of its columns: is it complete?")
    return table.with_columns(_with_points(column) for column in table if column.dtype == pl.String)


def _with_points(column: pl.Series) -> pl.Series:
    """Numbers that are all written with a decimal comma, or whole, with a point instead."""
    texts = column.str.strip_chars()
    numbers = texts.str.contains(r"^([+-]?\d+(,\d+)?)?$").fill_null(value=True)
    return texts.str.replace(",", ".", literal=True) if numbers.all() else column


def holds_numbers(file: TableFile, column: pl.Series) -> bool:
    """Whether a column is one of numbers, of which most differ in more than a name.

    Raises:
        DataError: nearly all of its values are numbers and some are not, or its type is no feature's.
    """
    dtype = column.dtype
    if dtype.is_nested() or dtype.is_temporal() or dtype == pl.Binary:
        raise DataError(
            f"{file.label}: column {column.name!r} has type {dtype}, which is neither number nor category: "
            f"leave it out with ignore={column.name}, or name it with time= if it is the time"
        )
    named = pl.Series([column.name]).str.contains(_ID)[0]
    if dtype.is_numeric():
        return not (
            named and (dtype.is_integer() or (column.drop_nulls() == column.drop_nulls().round()).all())
        )
    if dtype != pl.String:
        return False
    bad = no_numbers(column)
    present = len(column) - int(column.str.strip_chars().is_in(NO_NUMBER).fill_null(value=True).sum())
    if not present or bad.sum() > (1 - _MOSTLY) * present:
        return False
    way_out = f"nearly all others are numbers: correct it, or say categories={column.name}"
    refuse(file, bad, column, way_out)
    whole = column.str.contains(r"^\s*([+-]?\d+(\.0+)?)?\s*$").fill_null(value=True).all()
    return not (named and whole)


def _called(usual: Sequence[str], names: Sequence[str]) -> str | None:
    by_name = {plain(name): name for name in reversed(names)}
    return next((by_name[each] for each in usual if each in by_name), None)


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _labels(file: TableFile, column: pl.Series, threshold: float | None) -> pl.Series:
    """Float32, 0 or 1."""
    texts = as_categories(column).str.to_lowercase().replace(FIGURES)
    labels = texts.cast(pl.Float64, strict=False)
    if threshold is not None:
        refuse(file, labels.is_null() | ~labels.is_finite(), column, "and a label must be a number")
        labels = (labels >= threshold).cast(pl.Float64)
    way_out = "and a label is 0 or 1: correct it, or name another column with label="
    if labels.count() == texts.count():
        way_out = (
            "and a label is 0 or 1: correct it, or say from which value on it is a click with threshold="
        )
    refuse(file, ~labels.is_in([0.0, 1.0]).fill_null(value=False), column, way_out)
    return labels.cast(pl.Float32)
