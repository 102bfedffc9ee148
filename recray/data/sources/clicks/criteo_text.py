"""Criteo's lines: label, 13 integers, 26 categories of eight hex digits, tab separated, empty if missing.

Parsed in blocks, side by side: pyarrow's typed parser takes a good block as it is, and one that it
refuses is parsed again as text, so that its malformed lines are found column by column.

https://ailab.criteo.com/ressources/ (Display Advertising Challenge 2014; 1TB Click Logs).
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from recray.arrays import Bools, Float32s, UInt32s
from recray.data.parallel import in_parallel
from recray.data.row_source import Malformed
from recray.data.sources.files.text_blocks import TextBlock
from recray.schema import DataError

LABEL = "label"
DENSE = tuple(f"I{n}" for n in range(1, 14))
CATEGORIES = tuple(f"C{n}" for n in range(1, 27))
COLUMNS = (LABEL, *DENSE, *CATEGORIES)
CHECK_AFTER = 1_000_000  # lines after which the share of malformed ones means something
T = TypeVar("T")

_PARSE = {"delimiter": "\t", "quote_char": False, "newlines_in_values": False, "ignore_empty_lines": False}
_TYPES = {LABEL: pa.int8(), **dict.fromkeys(DENSE, pa.int64()), **dict.fromkeys(CATEGORIES, pa.binary(8))}
_CONVERT = {"null_values": [""], "strings_can_be_null": True, "quoted_strings_can_be_null": False}


class Category(NamedTuple):
    """One category column; the values of rows without one mean nothing."""

    values_N: UInt32s
    missing_N: Bools


class ClickLines(NamedTuple):
    """The valid rows of one block of text."""

    labels_N: Float32s
    dense_NF: Float32s  # NaN where missing
    categories: tuple[Category, ...]


class BadLine(NamedTuple):
    line: int  # in the file, 1-based
    problem: str
    text: str


class Parsed(NamedTuple):
    rows: ClickLines
    lines: int
    bad: list[BadLine]


def read_clicks(
    blocks: Iterable[TextBlock],
    work: Callable[[ClickLines], T],
    malformed: Malformed,
    max_malformed: float,
) -> Iterator[T]:
    """``work`` of the valid rows of each block, in order; malformed lines are counted.

    Raises:
        DataError: more than a share of ``max_malformed`` of the lines are malformed, of all lines or,
            sooner, of those read once there are a million.
    """

    def parsed(block: TextBlock) -> tuple[str, int, list[BadLine], T]:
        rows, lines, bad = parse(block)
        return block.label, lines, bad, work(rows)

    read = False
    for label, lines, bad, made in in_parallel(parsed, blocks):
        malformed.lines += lines
        for each in bad:
            malformed.add(label, *each)
        if malformed.lines >= CHECK_AFTER:
            _require_few(malformed, max_malformed)
        read = True
        yield made
    if read:
        _require_few(malformed, max_malformed)


_OTHERWISE = (
    ". Lists in the LETOR format are a folder, whose files train= and test= name; a table of clicks has its "
    "columns' names in line 1 and a name that ends in .csv or .tsv, and label= names the column of clicks"
)


def _require_few(malformed: Malformed, most: float) -> None:
    if malformed.count <= most * malformed.lines:
        return
    first = malformed.samples[0]
    raise DataError(
        f"{malformed.count:,} of {malformed.lines:,} lines are malformed, more than max_malformed={most:g}; "
        f"the first is {first['file']}, line {first['line']}: {first['problem']}. "
        "A line is a label, 13 whole numbers and 26 categories of eight hex digits, tab separated"
        + (_OTHERWISE if malformed.count == malformed.lines else "")
    )


def parse(block: TextBlock) -> Parsed:
    if not block.data.isascii():  # pyarrow cannot report a line that is not UTF-8
        block = block._replace(data=block.data.decode("utf-8", "replace").encode())
    bad: list[BadLine] = []
    rows = None
    # The typed parser does almost all of the work; what it refuses is looked at as text.
    with contextlib.suppress(pa.ArrowInvalid):
        rows = _rows(_read(block, _TYPES, bad))
    if rows is None:
        bad.clear()
        rows = _rows(_read_as_text(block, bad))
        assert rows is not None
    return Parsed(rows, len(rows.labels_N) + len(bad), bad)


def _read(block: TextBlock, types: dict[str, pa.DataType], bad: list[BadLine]) -> pa.Table:
    def skip(row: csv.InvalidRow) -> str:
        found = f"{row.actual_columns} fields instead of {row.expected_columns}"
        bad.append(BadLine(block.first_line + row.number - 1, found, row.text))
        return "skip"

    return csv.read_csv(
        pa.BufferReader(block.data),
        # One thread, one piece: only then does pyarrow number the rows that it skips.
        csv.ReadOptions(use_threads=False, block_size=len(block.data) + 1, column_names=list(COLUMNS)),
        csv.ParseOptions(**_PARSE, invalid_row_handler=skip),
        csv.ConvertOptions(column_types=types, **_CONVERT),
    )


def _read_as_text(block: TextBlock, bad: list[BadLine]) -> pa.Table:
    """The valid rows of a block that has invalid ones, in the types of the fast path."""
    texts = _read(block, dict.fromkeys(COLUMNS, pa.binary()), bad)
    lines = block.data.splitlines()
    line_of_row = np.setdiff1d(np.arange(len(lines)), [each.line - block.first_line for each in bad])
    good = np.ones(len(texts), dtype=bool)
    for name in COLUMNS:
        pattern, wanted = _patterns(name)
        matches = pc.match_substring_regex(texts[name], pattern)
        matches = pc.fill_null(matches, name != LABEL).to_numpy()
        for row in np.flatnonzero(good & ~matches):
            found = (texts[name][int(row)].as_py() or b"").decode("utf-8", "replace")
            at = int(line_of_row[row])
            text = lines[at].decode("utf-8", "replace")
            bad.append(BadLine(block.first_line + at, f"{name} is {found[:40]!r}, not {wanted}", text))
        good &= matches
    bad.sort()
    kept = texts.filter(pa.array(good))
    # Text to numbers goes through strings; all of it is ASCII by now.
    columns = [
        kept[name].cast(_TYPES[name])
        if name in CATEGORIES
        else kept[name].cast(pa.string()).cast(_TYPES[name])
        for name in COLUMNS
    ]
    return pa.table(columns, names=list(COLUMNS))


def _patterns(name: str) -> tuple[str, str]:
    if name == LABEL:
        return r"^[01]$", "0 or 1"
    if name in DENSE:
        return r"^-?[0-9]{1,18}$", "a whole number"
    return r"^[0-9a-fA-F]{8}$", "eight hex digits"


def _rows(table: pa.Table) -> ClickLines | None:
    """None where a value has its column's type and is wrong all the same."""
    labels_N = table[LABEL].to_numpy()
    if table[LABEL].null_count or not np.isin(labels_N, (0, 1)).all():
        return None
    dense_NF = np.empty((len(table), len(DENSE)), np.float32)
    for f, name in enumerate(DENSE):
        dense_NF[:, f] = table[name].cast(pa.float32(), safe=False).to_numpy()
    categories = []
    for name in CATEGORIES:
        category = _category(table[name].combine_chunks())
        if category is None:
            return None
        categories.append(category)
    return ClickLines(labels_N.astype(np.float32), dense_NF, tuple(categories))


def _category(column: pa.FixedSizeBinaryArray) -> Category | None:
    """Eight hex digits in a 64-bit word at a time; None where a byte is no hex digit.

    Per byte: the digit is the low half, plus 9 where bit 6 says it is a letter; then halves are joined.
    """
    missing_N = column.is_null().to_numpy(zero_copy_only=False)
    if not len(column):
        return Category(np.empty(0, np.uint32), missing_N)
    words_N = np.frombuffer(column.buffers()[1], ">u8", len(column), column.offset * 8).astype(np.uint64)
    lower_N = words_N | _each(0x20)
    digit_N = (words_N + _each(0x80 - 0x30)) & ~(words_N + _each(0x80 - 0x3A))
    letter_N = (lower_N + _each(0x80 - 0x61)) & ~(lower_N + _each(0x80 - 0x67))
    good_N = ((digit_N | letter_N) & ~words_N & _each(0x80)) == _each(0x80)
    if not (good_N | missing_N).all():
        return None
    words_N = (words_N & _each(0x0F)) + ((words_N >> np.uint64(6)) & _each(0x01)) * np.uint64(9)
    for bits, mask in ((4, 0x00FF00FF00FF00FF), (8, 0x0000FFFF0000FFFF), (16, 0x00000000FFFFFFFF)):
        words_N = (words_N | words_N >> np.uint64(bits)) & np.uint64(mask)
    return Category(words_N.astype(np.uint32), missing_N)


def _each(byte: int) -> np.uint64:
    return np.uint64(byte * 0x0101010101010101)
