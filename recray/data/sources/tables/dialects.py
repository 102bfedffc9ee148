"""How a text table is told: encoding, lines above the header, separator, quotes; found by looking at its
start.

What Polars does not read as it is (UTF-16, separators of more than a byte, old line ends) is written again as
UTF-8 with a separator of one byte, line by line, so that line numbers stay true.
"""

import codecs
import csv
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from recray.config import ConfigError
from recray.schema import DataError

log = logging.getLogger(__name__)

SEPARATORS = (",", ";", "\t", "|", "::")
_NAMED = {r"\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_STAND_IN = "\x1f"  # ASCII's unit separator: what it is for, and what no table of text holds
_EXCEL_SEPARATOR = re.compile(r'"?sep=(.)"?\s*$', re.IGNORECASE)  # a first line that only Excel reads
csv.field_size_limit(1 << 24)  # long descriptions are fields; a quote that never closes is none
_START_BYTES = 1 << 20
_SAMPLE_LINES = 100
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """``None`` and ``auto`` are found out; ``names`` and ``skip_lines`` belong to one file."""

    separator: str | None = None
    encoding: str | None = None
    otherwise: str | None = None  # the encoding of a file that is not UTF-8, where ``encoding`` says nothing
    quotes: Literal["auto", "no"] = "auto"
    header: Literal["auto", "yes", "no"] = "auto"
    names: tuple[str, ...] = ()
    skip_lines: int = 0  # above the first row of data
    sample: tuple[tuple[str, ...], ...] = ()  # the first rows of data

    def __post_init__(self) -> None:
        if self.separator is not None:
            found = _NAMED.get(self.separator, self.separator)
            if not found or found in ('"', "\n", "\r") or len(found) > 8:
                raise ConfigError(
                    rf"separator {self.separator!r} cannot separate fields: write one such as ; or \t or ::"
                )
            object.__setattr__(self, "separator", found)
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError as error:
                raise ConfigError(
                    f"no encoding called {self.encoding!r}: write e.g. 'utf-8' or 'latin-1'"
                ) from error

    @property
    def quoted(self) -> bool:
        return self.quotes == "auto"


def settle(
    path: Path, wanted: Dialect, scratch: Path, *, label: str, is_header: Callable[[list[str]], bool]
) -> tuple[Path, Dialect]:
    """A file that Polars reads, and how: ``path`` itself, or it written again in ``scratch``.

    Args:
        is_header: whether a line of fields names columns; asked where ``wanted.header`` is ``auto``.

    Raises:
        DataError: the file is not text of that encoding, or has no line of text.
    """
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    encoding = _encoding_of(path, start, wanted)
    whole_lines = len(start) < _START_BYTES
    lines = _decoded(start, encoding, label).splitlines()
    lines = lines[:_SAMPLE_LINES] if whole_lines or len(lines) > _SAMPLE_LINES else lines[:-1]
    skip = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    if not any(map(_is_row, lines[skip:])):
        raise DataError(f"{label} has no line of text: it must hold the names of the columns, then rows")
    told = _EXCEL_SEPARATOR.match(lines[skip])
    skip += told is not None
    separator = wanted.separator or (told[1] if told else _sniffed(lines[skip:]))
    rows = [_fields(line, separator, wanted.quoted) for line in lines[skip:] if line.strip()]
    has_header = wanted.header == "yes" or (wanted.header == "auto" and is_header(rows[0]))
    names = [name.strip() for name in rows[0]] if has_header else [str(n + 1) for n in range(len(rows[0]))]
    doubled = next((name for name in names if name and names.count(name) > 1), None)
    if doubled is not None:
        is_data = (
            "" if any(map(str.isalpha, "".join(names))) else ", or where this line is data, say header=no"
        )
        raise DataError(
            f"{label}, line {skip + 1}: a column name occurs twice ({doubled}): rename one{is_data}"
        )
    if names.count("") > 1:
        log.warning("%s: %d columns have no name and are left out", label, names.count(""))
    first = skip + has_header
    first += next((n for n, line in enumerate(lines[first:]) if line.strip()), 0)  # past blank lines
    settled = replace(
        wanted,
        separator=separator,
        encoding="utf-8",
        quotes="auto" if wanted.quoted and len(separator.encode()) == 1 else "no",
        header="yes" if has_header else "no",
        names=tuple(names),
        skip_lines=first,
        sample=tuple(map(tuple, rows[has_header:])),
    )
    is_plain = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig") and len(separator.encode()) == 1
    if is_plain and (b"\r" not in start or b"\n" in start):
        return path, settled
    target = scratch / f"{path.name}.utf-8"
    stand_in = separator if len(separator.encode()) == 1 else _STAND_IN
    _write_again(path, target, encoding, separator, stand_in, label)
    return target, replace(settled, separator=stand_in)


def _is_row(line: str) -> bool:
    return bool(line.strip()) and not _EXCEL_SEPARATOR.match(line)


def _encoding_of(path: Path, start: bytes, wanted: Dialect) -> str:
    """A byte-order mark is surer than what was said of several files at once."""
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    if stated := marked or wanted.encoding:
        return stated
    return "utf-8" if wanted.otherwise is None or _is_utf_8(path) else wanted.otherwise


def _is_utf_8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while data := file.read(_START_BYTES):
                decoder.decode(data)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(data: bytes, encoding: str, label: str) -> str:
    """A start of text; a character that the end cuts off is left out."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError as error:
        raise bad_byte(error, label, data.count(b"\n", 0, error.start) + 1, encoding) from error
    except UnicodeError as error:
        raise DataError(f"{label} is not {encoding} ({error}): save the file as UTF-8") from error


def bad_byte(error: UnicodeDecodeError, label: str, line: int, encoding: str) -> DataError:
    return DataError(
        f"{label}, line {line}: byte 0x{error.object[error.start]:02x} is not {encoding}: "
        "save the file as UTF-8, or set the encoding it has, e.g. 'latin-1' or 'utf-16'"
    )


def _sniffed(lines: list[str]) -> str:
    """The separator by which most lines have the fields of the first; of several, the one of most fields."""

    def fitness(separator: str) -> float:
        counts = [len(_fields(line, separator)) for line in lines if line.strip()]
        return counts[0] * counts.count(counts[0]) / len(counts) if counts[0] > 1 else 0.0

    return max(SEPARATORS, key=fitness)  # the earlier one of equals


def _fields(line: str, separator: str, quoted: bool = True) -> list[str]:
    if len(separator.encode()) > 1:  # rewritten without a look at quotes
        return line.split(separator)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return next(csv.reader([line], delimiter=separator, quoting=quoting), [])


def _write_again(path: Path, target: Path, encoding: str, separator: str, stand_in: str, label: str) -> None:
    try:
        with (
            path.open(encoding=encoding, newline=None) as source,
            target.open("w", encoding="utf-8", newline="") as out,
        ):
            for line in source:
                out.write(line if stand_in == separator else line.replace(separator, stand_in))
    except UnicodeError as error:
        raise DataError(
            f"{label} is not {encoding} ({error}): save the file as UTF-8, or set the encoding it has"
        ) from error


def numbered_rows(path: Path, dialect: Dialect, *, label: str) -> Iterator[tuple[int, list[str]]]:
    """Line number (the last one of a quoted row) and fields of each row of data, slowly; for finding faults.

    Raises:
        DataError: a byte is no UTF-8, or a line is no row.
    """
    line = 0

    def texts() -> Iterator[str]:
        nonlocal line
        with path.open("rb") as file:
            for line, data in enumerate(file, start=1):
                try:
                    text = data.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise bad_byte(error, label, line, "utf-8") from error
                if line > dialect.skip_lines:
                    yield text

    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE
    try:
        for fields in csv.reader(texts(), delimiter=dialect.separator or ",", quoting=quoting):
            if fields:
                yield line, fields
    except csv.Error as error:
        raise DataError(f"{label} is not a text table ({error}): save it with one row per line") from error


class Quotes(NamedTuple):
    """How the data of a text uses quotes."""

    some: bool
    open_fields: bool  # else they are letters
    inside: int | None  # the first line with one between letters


def quotes_in(path: Path, dialect: Dialect) -> Quotes:
    separator = re.escape((dialect.separator or ",").encode())
    opening = re.compile(rb'(?:^|%s)\s*"' % separator)
    between = re.compile(rb'[^"%s\r\n]"[^"%s\r\n]' % (separator, separator))
    some, open_fields, inside = False, False, None
    with path.open("rb") as file:
        for line, data in enumerate(islice(file, dialect.skip_lines, None), start=dialect.skip_lines + 1):
            some = some or b'"' in data
            open_fields = open_fields or opening.search(data) is not None
            if inside is None and between.search(data):
                inside = line
    return Quotes(some, open_fields, inside)
