"""Any CSV, TSV or Parquet file with a column for the user, the item, and optionally rating and time."""

import codecs
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from recray.config import ConfigError, nearest
from recray.data.source import ABSOLUTE_TIMES, ROW_NUMBERS, RawTables
from recray.data.sources.checks import first_problem
from recray.data.sources.delimited import (
    ROLES,
    SECONDS_PER_UNIT,
    Layout,
    Role,
    header,
    line_of_value,
    read_events,
)
from recray.data.sources.raw_files import fingerprint, require_file
from recray.schema import DataError

log = logging.getLogger(__name__)

TimeUnit = Literal["s", "ms", "us", "ns"]

# What such columns are called in the wild, compared in lower case without underscores.
_ALIASES: dict[Role, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "customer", "customerid", "reviewerid", "visitorid"),
    "item": ("item", "itemid", "iid", "movieid", "product", "productid", "asin", "bookid", "trackid"),
    "rating": ("rating", "score", "stars", "overall", "ratingvalue"),
    "timestamp": ("timestamp", "time", "ts", "unixtime", "unixreviewtime", "eventtime", "datetime", "date"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class InteractionTable:
    """One table of interactions.

    A column left at None is looked for under its usual names (``user_id``, ``movieId``, ``ts``...).
    Without a rating column every interaction counts 1; without a timestamp the order of the rows is
    the order of time.
    """

    path: Path
    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None
    separator: str | None = None  # None: tab for .tsv, else comma
    encoding: str = "utf-8"
    time_unit: TimeUnit = "s"
    ids: Literal["auto", "text"] = "auto"  # auto: numbers where all of them are
    rating_range: tuple[float, float] | None = None  # ratings outside are counted in the quality report

    def __post_init__(self) -> None:
        if self.time_unit not in SECONDS_PER_UNIT:
            raise ConfigError(
                f"time_unit must be one of {', '.join(SECONDS_PER_UNIT)}, got {self.time_unit!r}"
            )
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise ConfigError(
                f"no encoding called {self.encoding!r}: write e.g. 'utf-8' or 'latin-1'"
            ) from error

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def reader(self) -> str:
        return "table"

    def options(self) -> dict[str, Any]:
        return {
            "file": fingerprint(self.path),
            "columns": {role: getattr(self, role) for role in ROLES},
            "separator": self.separator,
            "encoding": self.encoding,
            "time_unit": self.time_unit,
            "ids": self.ids,
        }

    def read(self, scratch: Path) -> RawTables:
        require_file(self.path)
        is_parquet = self.path.suffix == ".parquet"
        events, has_time = self._read_parquet() if is_parquet else self._read_text()
        return RawTables(
            interactions=events,
            rating_range=self.rating_range,
            times=ABSOLUTE_TIMES if has_time else ROW_NUMBERS,
        )

    def _read_text(self) -> tuple[pl.DataFrame, bool]:
        separator = self.separator or ("\t" if self.path.suffix == ".tsv" else ",")
        layout = Layout(columns={}, dtypes={}, separator=separator, encoding=self.encoding)
        columns = self._columns(header(self.path, layout, label=str(self.path)))
        # Ids are read as text and become numbers once all of them are seen to be.
        dtypes: dict[Role, pl.DataType | type[pl.DataType]] = {
            "user": pl.String,
            "item": pl.String,
            "rating": pl.Float64,
            "timestamp": pl.Float64,
        }
        layout = Layout(
            columns=columns,
            dtypes={role: dtypes[role] for role in columns},
            separator=separator,
            encoding=self.encoding,
            time_unit=self.time_unit,
        )
        events = read_events(self.path, layout, label=str(self.path))
        id_roles: tuple[Role, ...] = ("user", "item") if self.ids == "auto" else ()
        for role in id_roles:
            ids = numbers_where_all_are(events[role])
            if ids.dtype == pl.String:
                self._refuse_overflow(ids, layout, role)
            events = events.with_columns(ids.alias(role))
        return events, "timestamp" in columns

    def _refuse_overflow(self, ids: pl.Series, layout: Layout, role: Role) -> None:
        """Numbers beyond 64 bits among numbers: most often a float or an overflow in an export."""
        distinct = ids.unique()
        wide = distinct.filter(
            distinct.str.contains(r"^[+-]?\d{19,}$") & distinct.cast(pl.Int64, strict=False).is_null()
        )
        others = distinct.filter(~distinct.is_in(wide.implode()))
        if len(wide) and len(others) and others.str.contains(r"^[+-]?\d+$").all():
            line = line_of_value(self.path, layout, role, wide[0], label=str(self.path))
            raise DataError(
                f"{self.path}, line {line}: column {layout.columns[role]!r}: {role} {wide[0]} does not fit "
                "into 64 bits while the other ids do: correct it, or read the ids with ids='text'"
            )

    def _read_parquet(self) -> tuple[pl.DataFrame, bool]:
        try:
            scan = pl.scan_parquet(self.path, glob=False)
            schema = scan.collect_schema()
            columns = self._columns(list(schema))
            table = scan.select(pl.col(column).alias(role) for role, column in columns.items()).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{self.path} is not a complete Parquet file ({reason}): write it again"
            ) from error
        if len(table) == 0:
            raise DataError(f"{self.path} is empty (0 rows)")
        for role, column in columns.items():
            self._require_type(role, column, table[role])
        events = table.select(
            _parquet_id("user", table.schema["user"]),
            _parquet_id("item", table.schema["item"]),
            pl.col("rating").cast(pl.Float32)
            if "rating" in columns
            else pl.lit(1.0, pl.Float32).alias("rating"),
            self._parquet_seconds(table).alias("timestamp"),
        )
        problem = first_problem(events)
        if problem:
            raise DataError(f"{self.path}, row {problem.row + 1}: {problem.text}")
        return events, "timestamp" in columns

    def _require_type(self, role: Role, column: str, values: pl.Series) -> None:
        dtype = values.dtype
        is_id = role in ("user", "item")
        wanted = (
            "whole numbers or text" if is_id else "numbers or times" if role == "timestamp" else "numbers"
        )
        good = dtype.is_integer() or dtype in (pl.String, pl.Categorical) if is_id else dtype.is_numeric()
        if good or (role == "timestamp" and dtype.is_temporal()):
            return
        raise DataError(
            f"{self.path}: column {column!r} has type {dtype}, but a {role} needs {wanted}: convert it"
        )

    def _parquet_seconds(self, table: pl.DataFrame) -> pl.Expr:
        if "timestamp" not in table.columns:
            return pl.int_range(pl.len(), dtype=pl.Int64)
        seconds = pl.col("timestamp")
        if table.schema["timestamp"].is_temporal():
            return seconds.cast(pl.Datetime("us")).dt.epoch("s")
        if self.time_unit == "s" and table.schema["timestamp"].is_integer():
            return seconds.cast(pl.Int64, strict=False)
        scaled = seconds.cast(pl.Float64) * SECONDS_PER_UNIT[self.time_unit]
        return scaled.fill_nan(None).floor().cast(pl.Int64, strict=False)

    def _columns(self, names: list[str]) -> dict[Role, str]:
        """The column of each role that the table has.

        Raises:
            DataError: a column that was named, or one for the user or the item, is not there.
        """
        found: dict[Role, str] = {}
        for role in ROLES:
            wanted = getattr(self, role)
            if wanted is not None and wanted not in names:
                raise DataError(f"{self.path}: no column {wanted!r} for the {role}{nearest(wanted, names)}")
            column = wanted or _by_alias(role, names)
            if column is None and role in ("user", "item"):
                raise DataError(
                    f"{self.path}: no column for the {role} (it has {', '.join(names)}): "
                    f"name the column with {role}=, or call it {role}_id"
                    + ("; is the separator right?" if len(names) == 1 else "")
                )
            if column is not None:
                found[role] = column
        if "timestamp" not in found:
            unused = ", ".join(name for name in names if name not in found.values()) or "none"
            log.warning(
                "%s has no column of times (unused columns: %s; name it as %s?timestamp=NAME): "
                "the order of its rows is taken as the order of time",
                self.path,
                unused,
                self.path.name,
            )
        return found


def _by_alias(role: Role, names: list[str]) -> str | None:
    plain = {name.lower().replace("_", "").replace(" ", ""): name for name in reversed(names)}
    return next((plain[alias] for alias in _ALIASES[role] if alias in plain), None)


def _parquet_id(role: str, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.UInt64:
        return pl.col(role).cast(pl.String)
    return pl.col(role).cast(pl.Int64 if dtype.is_integer() else pl.String)


def numbers_where_all_are(ids: pl.Series) -> pl.Series:
    """Text ids as Int64 where every one is the plain form of a number ("7", not "07" or "7.0")."""
    numbers = ids.cast(pl.Int64, strict=False)
    if numbers.null_count() or (numbers.cast(pl.String) != ids).any():
        return ids
    return numbers
