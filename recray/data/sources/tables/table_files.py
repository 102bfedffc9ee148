"""One file of a table, whatever its format: its columns, some of them as a frame, and where a row is."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import polars as pl

from recray.data.sources.files.locations import RawFile, kind_of, list_files, plain_file, start_of
from recray.data.sources.tables.dialects import Dialect, numbered_rows, quotes_in, settle
from recray.data.sources.tables.json_lines import JsonLines
from recray.data.sources.tables.stored import NO_TYPES, flat, write_groups
from recray.schema import DataError

log = logging.getLogger(__name__)

TEXT, PARQUET, JSON = (".csv", ".tsv"), (".parquet",), (".jsonl", ".ndjson", ".json")
TABLES = (*TEXT, *PARQUET, *JSON)
_GROUPED = r"[+-]?[1-9]\d{0,2}\.\d{3}$"  # 1.234: a number, or two groups of its digits
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_START_BYTES = 1 << 20  # of a text: hold the names of its columns


class TableFile(Protocol):
    @property
    def label(self) -> str:
        """The file, as a person knows it."""

    @property
    def names(self) -> Sequence[str]:
        """The columns, in order; positions from 1 where the file names none."""

    def read(self, columns: Sequence[str], types: Mapping[str, type[pl.DataType]] = NO_TYPES) -> pl.DataFrame:
        """These columns of every row, unchecked; text where the format has no types.

        Args:
            types: tried first for columns of text whose first rows fit: numbers take half the memory.

        Raises:
            DataError: the file is damaged, or a row has not the fields of the others.
        """

    def store(self, target: Path, *, group_rows: int) -> None:
        """Every row and column of ``read`` as Parquet, its row groups of so many rows; in constant memory,
        but for JSON.

        Raises:
            DataError: as ``read``.
        """

    def where(self, row: int) -> str:
        """File and line (or row) of a data row of ``read``.

        Raises:
            DataError: a line before it has not the fields of the others: that is the cause then.
        """


def open_table(
    file: RawFile,
    dialect: Dialect,
    scratch: Path,
    *,
    is_header: Callable[[list[str]], bool] = lambda names: True,
    text: bool = False,
) -> TableFile:
    """
    Args:
        text: read it as text whatever its name ends in.

    Raises:
        DataError: it is damaged, or nothing that is read as a table.
    """
    kind = kind_of(file.path)
    path = plain_file(file, scratch)
    table: TableFile
    if kind in PARQUET:
        table = _Parquet(file.label, path)
    elif kind in JSON:
        table = JsonLines(file.label, path)
    elif kind in TEXT or text:
        table = _Text(file.label, *settle(path, dialect, scratch, label=file.label, is_header=is_header))
    else:
        raise DataError(f"{file.label}: no table ends in {kind or 'nothing'}; these do: {', '.join(TABLES)}")
    keys = {name: value for name, value in file.partitions.items() if name not in table.names}
    return _Partitioned(table, keys) if keys else table


@dataclass(frozen=True)
class _Partitioned:
    """A file in folders such as ``date=2026-01-01``, which are columns of all its rows."""

    table: TableFile
    partitions: Mapping[str, str]

    @property
    def label(self) -> str:
        return self.table.label

    @property
    def names(self) -> Sequence[str]:
        return [*self.table.names, *self.partitions]

    def read(self, columns: Sequence[str], types: Mapping[str, type[pl.DataType]] = NO_TYPES) -> pl.DataFrame:
        stored = [name for name in columns if name not in self.partitions]
        # Something of the file is read where nothing is asked for: it has the number of rows.
        of_file = {name: kind for name, kind in types.items() if name in stored}
        table = self.table.read(stored or self.table.names[:1], of_file)
        return table.with_columns(self._told()).select(columns)

    def _told(self) -> list[pl.Expr]:
        told = {key: None if value == _NO_VALUE else value for key, value in self.partitions.items()}
        return [pl.lit(value, pl.String).alias(key) for key, value in told.items()]

    def store(self, target: Path, *, group_rows: int) -> None:
        plain = target.with_suffix(".plain")
        self.table.store(plain, group_rows=group_rows)
        write_groups(pl.scan_parquet(plain, glob=False).with_columns(self._told()), target, group_rows)
        plain.unlink()

    def where(self, row: int) -> str:
        return self.table.where(row)


def names_of(file: RawFile, dialect: Dialect, scratch: Path) -> Sequence[str]:
    """The columns of a file, by its start where its format allows that; as text whatever its name ends in.

    Raises:
        DataError: it is damaged, or no table.
    """
    if kind_of(file.path) in (*PARQUET, ".json"):
        return open_table(file, dialect, scratch).names
    start = start_of(file, _START_BYTES)
    whole_lines = start if len(start) < _START_BYTES else start.rpartition(b"\n")[0]
    path = scratch / f"start{kind_of(file.path)}"
    path.write_bytes(whole_lines)
    [raw] = list_files(path, TABLES)
    return open_table(replace(raw, label=file.label), dialect, scratch, text=True).names


# Polars makes a row of nulls from a blank line, which is no row.
_BLANK = pl.all_horizontal(pl.all().is_null())


@dataclass(frozen=True)
class _Text:
    label: str
    path: Path
    dialect: Dialect

    @property
    def names(self) -> list[str]:
        """One column may have no name; of several such, none is read."""
        names = self.dialect.names
        return [name for name in names if name or names.count("") == 1]

    def read(self, columns: Sequence[str], types: Mapping[str, type[pl.DataType]] = NO_TYPES) -> pl.DataFrame:
        fitting = {name: kind for name, kind in types.items() if self._fits(name, kind)}
        try:
            table = self._parsed(columns, fitting)
            if any(_may_be_thousands(table[name]) for name in columns if name in fitting):
                table = self._text_of(columns)
        except (pl.exceptions.PolarsError, ValueError):
            table = self._text_of(columns)
        if all(column.null_count() for column in table):
            table = table.filter(~_BLANK)
        return table

    def store(self, target: Path, *, group_rows: int) -> None:
        try:
            write_groups(self._scan({}).select(self.names).filter(~_BLANK), target, group_rows)
        except (pl.exceptions.PolarsError, ValueError) as error:
            self._with_letters(error).store(target, group_rows=group_rows)

    def _text_of(self, columns: Sequence[str]) -> pl.DataFrame:
        try:
            return self._parsed(columns, {})
        except (pl.exceptions.PolarsError, ValueError) as error:
            return self._with_letters(error)._text_of(columns)

    def _with_letters(self, error: Exception) -> "_Text":
        """The same, its quotes taken for letters.

        Raises:
            DataError: they are none, so that the error is what is wrong.
        """
        self._refuse_ragged()
        quotes = quotes_in(self.path, self.dialect)
        if self.dialect.quoted and quotes.some and not quotes.open_fields:
            log.info("%s: no field begins with a quote: quotes are taken for letters", self.label)
            return replace(self, dialect=replace(self.dialect, quotes="no"))
        where = self.label if quotes.inside is None else f"{self.label}, line {quotes.inside}"
        advice = (
            "write a quote inside a field twice and the field between quotes, or where none is meant so, say "
            "quotes=no"
            if quotes.some
            else "is the file whole, and is there room on the disk?"
        )
        raise DataError(f"{where}: {str(error).splitlines()[0]}: {advice}") from error

    def _parsed(self, columns: Sequence[str], types: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
        return self._scan(types).select(columns).collect()

    def _scan(self, types: Mapping[str, type[pl.DataType]]) -> pl.LazyFrame:
        return pl.scan_csv(
            self.path,
            glob=False,  # brackets and stars belong to the name
            separator=self.dialect.separator or ",",
            quote_char='"' if self.dialect.quoted else None,
            has_header=False,
            skip_lines=self.dialect.skip_lines,
            schema={name: types.get(name, pl.String) for name in self._unique_names},
        )

    @property
    def _unique_names(self) -> list[str]:
        one_unnamed = len(self.names) == len(self.dialect.names)
        return [name or ("" if one_unnamed else f"\0{n}") for n, name in enumerate(self.dialect.names)]

    def _fits(self, name: str, kind: type[pl.DataType]) -> bool:
        position = self.dialect.names.index(name)
        texts = [row[position] for row in self.dialect.sample if len(row) > position]
        if kind == pl.Float64 and any(re.match(_GROUPED, text) for text in texts):
            return False
        return pl.Series(texts, dtype=pl.String).cast(kind, strict=False).null_count() == 0

    def where(self, row: int) -> str:
        self._refuse_ragged()
        rows = (
            line for line, fields in numbered_rows(self.path, self.dialect, label=self.label) if any(fields)
        )
        return f"{self.label}, line {next(line for n, line in enumerate(rows) if n == row)}"

    def _refuse_ragged(self) -> None:
        log.info("%s cannot be read as it is; looking for the first bad line", self.label)
        width = len(self.dialect.names)
        for line, fields in numbered_rows(self.path, self.dialect, label=self.label):
            if len(fields) != width:
                raise DataError(
                    f"{self.label}, line {line}: has {len(fields)} fields instead of {width} "
                    f"({', '.join(self.names)}): the file is cut off there, a separator is missing "
                    "or unquoted, or a quote is not closed (quotes=no takes quotes for letters)"
                )


def _may_be_thousands(numbers: pl.Series) -> bool:
    """Whether all that is not whole has three decimals, as ``1.234`` for 1,234 would: the text tells more."""
    if not numbers.dtype.is_float():
        return False
    thousandths = numbers.filter(numbers != numbers.floor()).abs() * 1000
    if not len(thousandths) or not (thousandths >= 1000).all():
        return False
    is_whole = ((thousandths - thousandths.round()).abs() < 1e-6).all()
    return bool(is_whole and (thousandths.round() % 10 != 0).any())


def slices_of(table: TableFile, rows: int) -> Iterator[tuple[TableFile, int]]:
    """The same file as tables of at most so many rows each, and how many those are.

    Raises:
        DataError: its format is read as a whole.
    """
    if isinstance(table, _Partitioned):
        for part, count in slices_of(table.table, rows):
            yield replace(table, table=part), count
    elif isinstance(table, _Parquet):
        total = table.num_rows
        for start in range(0, total, rows):
            count = min(rows, total - start)
            yield replace(table, start=start, count=count), count
    else:
        raise DataError(
            f"{table.label} is text, which is read as a whole: write it as Parquet to prepare it in parts, "
            "or leave the reader at memory"
        )


@dataclass(frozen=True)
class _Parquet:
    label: str
    path: Path
    start: int = 0
    count: int | None = None  # rows from there on; None: all

    @property
    def num_rows(self) -> int:
        count: int = self._scan().select(pl.len()).collect().item()
        return count

    @property
    def names(self) -> list[str]:
        return list(self._scan().collect_schema())

    def _scan(self) -> pl.LazyFrame:
        try:
            scan = pl.scan_parquet(self.path, glob=False)
            scan.collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error
        whole = not self.start and self.count is None
        return flat(scan if whole else scan.slice(self.start, self.count))

    def _damaged(self, error: Exception) -> DataError:
        reason = str(error).splitlines()[0]
        return DataError(f"{self.label} is not a complete Parquet file ({reason}): write it again")

    def read(self, columns: Sequence[str], types: Mapping[str, type[pl.DataType]] = NO_TYPES) -> pl.DataFrame:
        try:
            return self._scan().select(columns).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error

    def store(self, target: Path, *, group_rows: int) -> None:
        try:
            write_groups(self._scan(), target, group_rows)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error

    def where(self, row: int) -> str:
        return f"{self.label}, row {self.start + row + 1}"
