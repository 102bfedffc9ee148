"""One file of a table of clicks: its columns as they are, and where a wrong value stands."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from recray.config import ConfigError
from recray.data.sources.raw_files import require_file
from recray.schema import DataError

TEXT, PACKED = (".csv", ".tsv"), (".gz", ".zst")
SEPARATORS = (",", ";", "\t", "|")
FIRST_LINE_BYTES = 1 << 20


def kind_of(path: Path) -> str:
    """``.csv``, ``.tsv`` or ``.parquet``; empty for any other file."""
    plain = path.with_suffix("") if path.suffix in PACKED else path
    known = plain.suffix in TEXT or (plain.suffix == ".parquet" and plain == path)
    return plain.suffix if known else ""


def stem_of(path: Path) -> str:
    return path.name.removesuffix(path.suffix).split(".")[0] if path.suffix in PACKED else path.stem


@dataclass(frozen=True)
class TableFile:
    path: Path
    separator: str | None = None
    """Of a text; None: the one of ``SEPARATORS`` that the first line has most of."""

    def names(self) -> list[str]:
        """The columns.

        Raises:
            DataError: the file is missing or no table, or two columns have one name.
        """
        require_file(self.path)
        if kind_of(self.path) == ".parquet":
            try:
                return list(pl.read_parquet_schema(self.path))
            except (pl.exceptions.PolarsError, OSError) as error:
                raise self._damaged(error) from error
        found = next(csv.reader([self._first_line()], delimiter=self._separator()), [])
        names = [name.strip() for name in found]
        twice = {name for name in names if names.count(name) > 1}
        if twice or "" in names:
            what = f"two columns called {min(twice)!r}" if twice - {""} else "a column without a name"
            raise DataError(f"{self.path}, line 1: {what}: each needs a name of its own in the first line")
        return names

    def read(self) -> pl.DataFrame:
        """All rows; those of a text as text, null where nothing is written.

        Raises:
            DataError: naming the line that is no row, or why the file cannot be read.
        """
        names = self.names()
        if kind_of(self.path) == ".parquet":
            try:
                table = pl.read_parquet(self.path, glob=False)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise self._damaged(error) from error
        else:
            table = self._read_text(names)
        if not len(table):
            raise DataError(f"{self.path} has no rows below its first line: is it complete?")
        return table

    def refuse(self, bad: pl.Series, column: pl.Series, why: str) -> None:
        """
        Raises:
            DataError: there is a bad value; names the first of them and its line.
        """
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise DataError(f"{self.path}, {self._place(row)}: {column.name} is {column[row]!r}, {why}")

    def _read_text(self, names: list[str]) -> pl.DataFrame:
        uneven: list[int] = []

        def note(row: arrow_csv.InvalidRow) -> str:
            uneven.append(row.actual_columns)
            return "skip"

        try:
            with pa.input_stream(str(self.path)) as stream:
                found = arrow_csv.read_csv(
                    stream,
                    arrow_csv.ReadOptions(column_names=names, skip_rows=1),
                    arrow_csv.ParseOptions(delimiter=self._separator(), invalid_row_handler=note),
                    arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.string()),
                        null_values=[""],
                        strings_can_be_null=True,
                    ),
                )
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        if uneven:
            line, fields = self._first_uneven(len(names))
            raise DataError(
                f"{self.path}, line {line}: {fields} fields and {len(names)} columns: quote values that hold "
                f"a {self._separator()!r}, or name the separator with separator="
            )
        for name in names:
            broken = pc.fill_null(pc.match_substring(found[name], "\n"), fill_value=False)
            if pc.any(broken).as_py():
                row = pc.index(broken, value=True).as_py()
                raise DataError(
                    f"{self.path}, {self._place(row)}: {name} runs over several lines: close its quote, or "
                    "take the line breaks out"
                )
        # Polars keeps the text where it is.
        table = pl.from_arrow(found)
        assert isinstance(table, pl.DataFrame)
        if self._separator() != ",":
            table = table.with_columns(_with_points(table[name]) for name in names)
        return table

    def _first_line(self) -> str:
        try:
            with pa.input_stream(str(self.path)) as stream:
                start: bytes = stream.read(FIRST_LINE_BYTES)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        return next(iter(start.decode("utf-8-sig", "replace").splitlines()), "")

    def _separator(self) -> str:
        if self.separator:
            letter = self.separator.replace("\\t", "\t")
            if len(letter) != 1:
                raise ConfigError(
                    f"separator must be one letter, got {self.separator!r}: a tab is written \\t"
                )
            return letter
        if kind_of(self.path) == ".tsv":
            return "\t"
        line = self._first_line()
        return max(SEPARATORS, key=line.count)

    def _lines(self) -> "list[tuple[int, int]]":
        """Line and number of fields of each row of a text; slow, and only asked for where one is wrong."""
        with pa.input_stream(str(self.path)) as stream:
            text = io.StringIO(stream.read().decode("utf-8-sig"))
        found, before, reader = [], 0, csv.reader(text, delimiter=self._separator())
        for fields in reader:
            if fields:  # an empty line is no row
                found.append((before + 1, len(fields)))
            before = reader.line_num
        return found[1:]

    def _first_uneven(self, width: int) -> tuple[int, int]:
        return next((line, fields) for line, fields in self._lines() if fields != width)

    def _place(self, row: int) -> str:
        return f"row {row + 1}" if kind_of(self.path) == ".parquet" else f"line {self._lines()[row][0]}"

    def _damaged(self, error: Exception) -> DataError:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return DataError(f"{self.path} cannot be read ({reason}): write it again, text as UTF-8")


def _with_points(column: pl.Series) -> pl.Series:
    """Numbers that are all written with a decimal comma, or whole, with a point instead."""
    texts = column.str.strip_chars()
    numbers = texts.str.contains(r"^([+-]?\d+(,\d+)?)?$").fill_null(value=True)
    return texts.str.replace(",", ".", literal=True) if numbers.all() else column
