"""Text tables of interactions: a typed fast path, and a slow one that finds the bad line.

The fast path is Polars' typed CSV reader. Only where it fails, or where its result breaks a rule,
a pass in plain Python over the same file finds the first bad line and says what is wrong with it.
"""

import codecs
import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from recray.config import nearest
from recray.data.sources.tables.checks import first_problem, rating_problem, time_problem
from recray.schema import DataError

log = logging.getLogger(__name__)

Role = Literal["user", "item", "rating", "timestamp"]
ROLES: tuple[Role, ...] = ("user", "item", "rating", "timestamp")
SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the four columns of an interaction are in a text table.

    ``columns`` maps a role to the name of its column, or without a header to its position in
    ``names``. Roles that are absent are filled: rating 1.0, timestamp the row number.
    """

    columns: dict[Role, str]
    dtypes: dict[Role, pl.DataType | type[pl.DataType]]
    names: tuple[str, ...] | None = None  # all columns in order, where the file has no header
    separator: str = ","
    quoted: bool = True
    encoding: str = "utf-8"
    time_unit: str = "s"


def read_events(path: Path, layout: Layout, *, label: str) -> pl.DataFrame:
    """``user, item, rating, timestamp`` of every row, valid and without nulls.

    Raises:
        DataError: ``label`` (the file as the user knows it), the line, and what is wrong there.
    """
    names = header(path, layout, label=label)
    for role, column in layout.columns.items():
        if column not in names:
            raise DataError(f"{label}: no column {column!r} for the {role}{nearest(column, names)}")
    try:
        table = _parse(path, layout, names)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, ValueError) as error:
        cause = _first_bad_line(path, layout, names, label) or str(error).splitlines()[0]
        raise DataError(f"{label}, {cause}") from error
    events = _by_role(table, layout)
    problem = first_problem(events) if len(events) else None
    if problem:
        bad_line = _first_bad_line(path, layout, names, label)
        if bad_line:
            raise DataError(f"{label}, {bad_line}")
        # Polars makes a row of nulls from a blank line, which is no row.
        events = _by_role(table.filter(~pl.all_horizontal(pl.all().is_null())), layout)
        problem = first_problem(events) if len(events) else None
    if problem or len(events) == 0:
        raise DataError(f"{label}: " + (problem.text if problem else "no rows; is the file complete?"))
    return events


def header(path: Path, layout: Layout, *, label: str) -> list[str]:
    """Names of all columns, in order."""
    for _, text in _decoded_lines(path, layout.encoding, label):
        names = layout.names or [name.strip() for name in next(_csv_rows(iter([text]), layout, label), [])]
        if not names:
            raise DataError(f"{label}, line 1 is blank: it must hold the names of the columns")
        if len(set(names)) < len(names):
            raise DataError(f"{label}, line 1: a column name occurs twice ({', '.join(names)}): rename one")
        return list(names)
    raise DataError(f"{label} is empty (0 bytes of text): fetch it again")


def line_of_value(path: Path, layout: Layout, role: Role, value: str, *, label: str) -> int:
    """Line number of the first row that has this text in that role's column; 0 where none has."""
    position = header(path, layout, label=label).index(layout.columns[role])
    rows = _rows(path, layout, label)
    return next((line for line, fields in rows if len(fields) > position and fields[position] == value), 0)


def _parse(path: Path, layout: Layout, names: list[str]) -> pl.DataFrame:
    wanted = {layout.columns[role]: layout.dtypes[role] for role in layout.columns}
    schema = {name: wanted.get(name, pl.String) for name in names}
    return pl.read_csv(
        path,
        glob=False,  # brackets and stars belong to the name
        separator=layout.separator,
        quote_char='"' if layout.quoted else None,
        has_header=False,
        skip_lines=0 if layout.names else 1,  # the header was read already, with its spaces stripped
        schema=schema,
        columns=[i for i, name in enumerate(names) if name in wanted],
        encoding="utf8" if _is_utf8(layout.encoding) else layout.encoding,
    )


def _by_role(table: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    def column(role: Role) -> pl.Expr:
        return pl.col(layout.columns[role])

    rating = column("rating").cast(pl.Float32) if "rating" in layout.columns else pl.lit(1.0, pl.Float32)
    if "timestamp" not in layout.columns:
        seconds = pl.int_range(pl.len(), dtype=pl.Int64)
    elif layout.dtypes["timestamp"] == pl.Int64 and layout.time_unit == "s":
        seconds = column("timestamp")
    else:
        seconds = column("timestamp").cast(pl.Float64) * SECONDS_PER_UNIT[layout.time_unit]
        seconds = seconds.fill_nan(None).floor().cast(pl.Int64, strict=False)
    return table.select(
        column("user").alias("user"),
        column("item").alias("item"),
        rating.alias("rating"),
        seconds.alias("timestamp"),
    )


def _first_bad_line(path: Path, layout: Layout, names: list[str], label: str) -> str | None:
    """``line 3: what is wrong`` for the first line that breaks a rule; None where none does."""
    log.info("%s cannot be read as it is; looking for the first bad line", label)
    rows = _rows(path, layout, label)
    if layout.names is None:
        next(rows)
    for line, fields in rows:
        problem = _field_count_problem(fields, names) or _row_problem(fields, layout, names)
        if problem:
            return f"line {line}: {problem}"
    return None


def _field_count_problem(fields: list[str], names: list[str]) -> str | None:
    if len(fields) == len(names):
        return None
    return (
        f"has {len(fields)} fields instead of {len(names)} ({', '.join(names)}): "
        "the file is cut off there, or a separator is missing or unquoted"
    )


def _row_problem(fields: list[str], layout: Layout, names: list[str]) -> str | None:
    for role, column in layout.columns.items():
        text = fields[names.index(column)].strip()
        problem = f"{role} is empty" if not text else _value_problem(role, text, layout)
        if problem:
            return f"column {column!r}: {problem}"
    return None


def _value_problem(role: Role, text: str, layout: Layout) -> str | None:
    dtype = layout.dtypes[role]
    if dtype == pl.String:
        return None
    if role in ("user", "item") or dtype == pl.Int64:
        problem = _integer_problem(role, text, bits=32 if dtype == pl.Int32 else 64)
        if problem or role != "timestamp":
            return problem
    try:
        number = float(text)
    except ValueError:
        wanted = "unix seconds" if role == "timestamp" else "a number with a decimal point"
        return f"{role} {text!r} is not a number: write it as {wanted}"
    if role == "rating":
        return rating_problem(number)
    return time_problem(number * SECONDS_PER_UNIT[layout.time_unit])


def _integer_problem(role: Role, text: str, bits: int) -> str | None:
    try:
        number = int(text)
    except ValueError:
        return f"{role} {text!r} is not a whole number"
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        return f"{role} {text} does not fit into {bits} bits: number the {role}s anew or make them text"
    return None


def _rows(path: Path, layout: Layout, label: str) -> Iterator[tuple[int, list[str]]]:
    """Line number (the last one of a quoted record) and fields; blank lines are no rows."""
    line = 0

    def texts() -> Iterator[str]:
        nonlocal line
        for line, text in _decoded_lines(path, layout.encoding, label):  # noqa: B007 (line is read outside)
            yield text

    for fields in _csv_rows(texts(), layout, label):
        if fields:
            yield line, fields


def _csv_rows(lines: Iterator[str], layout: Layout, label: str) -> Iterator[list[str]]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    try:
        yield from csv.reader(lines, delimiter=layout.separator, quoting=quoting)
    except csv.Error as error:
        raise DataError(f"{label} is not a text table ({error}): save it with one row per line") from error


def _decoded_lines(path: Path, encoding: str, label: str) -> Iterator[tuple[int, str]]:
    if "\n".encode(encoding) != b"\n":
        yield from _decoded_text(path, encoding, label)
        return
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            if line == 1 and _is_utf8(encoding):
                data = data.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line, data.decode(encoding)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{label}, line {line}: byte 0x{data[error.start]:02x} is not {encoding}: "
                    "save the file as UTF-8, or set the encoding it has, e.g. 'latin-1' or 'utf-16'"
                ) from error


def _decoded_text(path: Path, encoding: str, label: str) -> Iterator[tuple[int, str]]:
    """For encodings such as UTF-16, whose bytes cannot be cut into lines before they are decoded."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            yield from enumerate(file, start=1)
    except UnicodeError as error:
        raise DataError(f"{label} is not {encoding} ({error}): save the file as UTF-8") from error


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"
