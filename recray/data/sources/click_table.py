"""Clicks in a table of any columns: CSV or TSV (also ``.gz``, ``.zst``), Parquet, or a folder of three.

The label says what was a click; all other columns are features, numbers or categories by what they hold.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import polars as pl

from recray.arrays import Float64s, Int64s
from recray.config import ConfigError, nearest
from recray.data.row_encoding import NO_NUMBER, RowEncoding, as_categories, fit_values, no_numbers
from recray.data.row_source import PARTS, Part, RawRows
from recray.data.sources.click_table_file import TableFile, kind_of, stem_of
from recray.data.sources.criteo import is_click_log
from recray.data.sources.raw_files import fingerprint
from recray.schema import DataError

log = logging.getLogger(__name__)
Split = Literal["auto", "time", "order", "random"]
LABELS = ("label", "click", "clicked", "isclick", "isclicked", "target", "converted", "conversion")
TIMES = ("timestamp", "time", "ts", "datetime", "eventtime", "date", "unixtime")
SHARES = (0.8, 0.9)  # where validation and test begin
_FILES: dict[Part, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
_ID = r"(?i)(^|[_\s])(id|code|zip)$|[a-z](Id|ID)$"  # numbers that name things
_DATE = r"^\s*(\d{4}-\d{2}-\d{2}|\d{2}\.\d{2}\.\d{4})"
_MOSTLY = 0.95  # a column with so many numbers was meant to hold nothing else
_TRUTH = {"true": "1", "false": "0"}


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
                raise DataError(f"{file.path}: no column {name!r}, which {self.label} is predicted from")
        for name in self.numbers:
            way_out = f"which is no number that fits 32 bits: correct it, or say categories={name}"
            file.refuse(no_numbers(table[name]), table[name], way_out)
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
    label: str | None = None
    """Column of what was a click; None: one called label, click, target or the like."""
    threshold: float | None = None
    """Lowest label that is a click; None: labels are 0 and 1 (or true and false)."""
    time: str | None = None
    """Column of times, which cuts the parts and is no feature; None: one called timestamp, date..."""
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
    separator: str | None = None
    """None: the one of comma, semicolon, tab and bar that the first line has most of."""

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise ConfigError(f"split must be one of {', '.join(get_args(Split))}, got {self.split!r}")
        if self.min_count < 1:
            raise ConfigError(f"min_count must be at least 1, got {self.min_count}")
        said = [name for kind in (self.categories, self.numbers, self.ignore) for name in _listed(kind)]
        for name in said:
            if said.count(name) > 1:
                raise ConfigError(f"{name!r} stands twice among categories, numbers and ignore: say one")

    @property
    def name(self) -> str:
        return stem_of(self.path)

    @property
    def reader(self) -> str:
        return "click-table"

    def options(self) -> dict[str, Any]:
        files = list(_given(self.path).values()) if self.path.is_dir() else [self.path]
        chosen = ("label", "threshold", "time", "split", "categories", "numbers", "ignore", "min_count")
        return {
            "files": [fingerprint(file) for file in files],
            **{key: getattr(self, key) for key in (*chosen, "separator")},
        }

    def tables(self) -> Tables:
        """What the files hold, checked.

        Raises:
            DataError: naming the file, the line or column, and the way out.
        """
        paths = [_given(self.path)[part] for part in PARTS] if self.path.is_dir() else [self.path]
        files = [TableFile(path, self.separator) for path in paths]
        tables = [file.read() for file in files]
        columns = self._columns(files[0], tables[0])
        checked = (columns.checked(*each, self.threshold) for each in zip(files, tables, strict=True))
        return Tables(columns, files, list(checked))

    def rows(self, scratch: Path) -> RawRows:
        columns, files, tables = self.tables()
        facts: dict[str, Any] = {"columns": columns._asdict()}
        split = "files " + ", ".join(file.path.name for file in files)
        if len(tables) == 1:
            places, split = self._cut(files[0], tables[0], columns.time)
            if columns.time:
                times_N = times_of(files[0], tables[0][columns.time])
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
                f"{file.path}: no column says what was a click (it has {', '.join(names)}): name it "
                "with label="
            )
        time = self.time or _called(TIMES, names)
        said = {kind: _listed(getattr(self, kind)) for kind in ("categories", "numbers", "ignore")}
        for name in (label, *filter(None, [time]), *(n for listed in said.values() for n in listed)):
            if name not in names:
                raise DataError(f"{file.path}: no column {name!r}{nearest(name, names)}")
        features = [name for name in names if name not in (label, time, *said["ignore"])]
        numbers = [
            name
            for name in features
            if name in said["numbers"]
            or (name not in said["categories"] and holds_numbers(file, table[name]))
        ]
        if not features:
            raise DataError(f"{file.path}: no column is left for a feature beside {label}")
        categories = tuple(name for name in features if name not in numbers)
        return Columns(label, time, tuple(numbers), categories)

    def _cut(self, file: TableFile, table: pl.DataFrame, time: str | None) -> tuple[list[Int64s], str]:
        """Which rows are for what, in the order of the file or of time."""
        if self.split == "time" and time is None:
            raise DataError(f"{file.path}: no column of times to split by: name it with time=")
        rows = np.arange(len(table))
        if self.split == "random" or (self.split == "auto" and time is None):
            if self.split == "auto":
                log.warning(
                    "%s has no column of times: its rows are split by chance, which lets a model look into "
                    "the future if they have an order; name the column with time=, or say split=order",
                    file.path,
                )
            rows = np.random.default_rng(0).permutation(rows)
            cuts = [round(share * len(rows)) for share in SHARES]
            return [np.sort(part) for part in np.split(rows, cuts)], "random(0.8,0.1,0.1,seed=0)"
        cuts = [round(share * len(rows)) for share in SHARES]
        if self.split != "order" and time is not None:
            times_N = times_of(file, table[time])
            rows = np.argsort(times_N, kind="stable")
            # Rows of one moment are never on both sides of a cut.
            cuts = np.searchsorted(times_N[rows], times_N[rows][cuts]).tolist()
            if not 0 < cuts[0] < cuts[1]:
                raise DataError(
                    f"{file.path}: {time} has too few different times to cut it 80/10/10: name another "
                    "column with time=, or say split=order or split=random"
                )
        return np.split(rows, cuts), "global-time(0.8,0.1,0.1)"


def is_click_table(path: Path, options: Mapping[str, object]) -> bool:
    """Whether it is a table with a label: named by ``label=``, or called as labels usually are.

    Ratings are asked for by what they alone have: ``user=``, ``item=``, ``rating=``, ``sessions=``.
    """
    if path.is_dir():
        return "train" in _files(path) and kind_of(_files(path)["train"]) != ""
    if not path.is_file() or not kind_of(path) or is_click_log(path):
        return False
    if "label" in options:
        return True
    if options.keys() & {"user", "item", "rating", "sessions", "threshold"}:
        return False
    separator = options.get("separator")
    names = TableFile(path, separator if isinstance(separator, str) else None).names()
    return _called(LABELS, names) is not None and _called(("rating", "stars", "score"), names) is None


def holds_numbers(file: TableFile, column: pl.Series) -> bool:
    """Whether a column is one of numbers, of which most differ in more than a name.

    Raises:
        DataError: nearly all of its values are numbers and some are not, or its type is no feature's.
    """
    dtype = column.dtype
    if dtype.is_nested() or dtype.is_temporal() or dtype == pl.Binary:
        raise DataError(
            f"{file.path}: column {column.name!r} has type {dtype}, which is neither number nor category: "
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
    file.refuse(bad, column, way_out)
    whole = column.str.contains(r"^\s*([+-]?\d+(\.0+)?)?\s*$").fill_null(value=True).all()
    return not (named and whole)


def _called(usual: Sequence[str], names: Sequence[str]) -> str | None:
    plain = {name.lower().replace("_", "").replace(" ", ""): name for name in reversed(names)}
    return next((plain[each] for each in usual if each in plain), None)


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _files(folder: Path) -> dict[Part, Path]:
    found: dict[Part, Path] = {}
    for part, stems in _FILES.items():
        fitting = [p for p in sorted(folder.iterdir()) if kind_of(p) and stem_of(p) in stems]
        if fitting and not is_click_log(fitting[0]):
            found[part] = fitting[0]
    return found


def _given(folder: Path) -> dict[Part, Path]:
    """
    Raises:
        DataError: a part has no file.
    """
    found = _files(folder)
    for part, stems in _FILES.items():
        if part not in found:
            raise DataError(
                f"{folder} has no file for the {part} part: add {' or '.join(stems)} as .csv, .tsv or "
                ".parquet, or give one file, which is then split"
            )
    return found


def times_of(file: TableFile, column: pl.Series) -> Float64s:
    """Numbers of one unit whose order is that of time.

    Raises:
        DataError: a value is no time.
    """
    way_out = "which is no time: write numbers, or dates as 2026-08-01T06:48:54Z; or say split=order"
    if column.dtype != pl.String:
        file.refuse(column.is_null(), column, way_out)
        return column.cast(pl.Int64).to_numpy() if column.dtype.is_temporal() else column.to_numpy()
    numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
    if numbers.null_count() <= (1 - _MOSTLY) * len(column):
        file.refuse(numbers.is_null() | ~numbers.is_finite(), column, way_out)
        return numbers.to_numpy()
    # 08/01/2026 is a day in January or in August.
    file.refuse(~column.str.contains(_DATE).fill_null(value=False), column, way_out)
    texts = column.str.strip_chars().str.replace(r"\s*(UTC|GMT)$", "")
    try:
        parsed = texts.str.to_datetime(strict=False, time_unit="us", time_zone="UTC")
    except pl.exceptions.PolarsError:
        parsed = pl.Series([None] * len(column), dtype=pl.Datetime("us"))
    file.refuse(parsed.is_null(), column, way_out)
    return parsed.cast(pl.Int64).to_numpy()


def _labels(file: TableFile, column: pl.Series, threshold: float | None) -> pl.Series:
    """Float32, 0 or 1."""
    texts = as_categories(column).str.to_lowercase().replace(_TRUTH)
    labels = texts.cast(pl.Float64, strict=False)
    if threshold is not None:
        file.refuse(labels.is_null() | ~labels.is_finite(), column, "and a label must be a number")
        labels = (labels >= threshold).cast(pl.Float64)
    way_out = "and a label is 0 or 1: correct it, or say from which value on it is a click with threshold="
    file.refuse(~labels.is_in([0.0, 1.0]).fill_null(value=False), column, way_out)
    return labels.cast(pl.Float32)
