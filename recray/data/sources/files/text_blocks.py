"""Large text files in blocks of whole lines, numbered, whatever their size."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from recray.schema import DataError

BLOCK_BYTES = 16 << 20


class TextBlock(NamedTuple):
    """Whole lines of a file."""

    label: str  # the file, as the user knows it
    first_line: int  # 1-based
    data: bytes


@dataclass(frozen=True)
class Lines:
    """Lines ``start`` to ``stop`` (0-based, None: to the end) of a file; ``.gz`` is unpacked on the way."""

    path: Path
    start: int = 0
    stop: int | None = None

    def blocks(self) -> Iterator[TextBlock]:
        line = 0
        for data in _whole_lines(self.path):
            count = count_lines(data)
            first, last = max(self.start - line, 0), count
            if self.stop is not None:
                last = min(self.stop - line, count)
            if first < last:
                yield TextBlock(self.path.name, line + first + 1, _cut(data, first, last, count))
            line += count
            if self.stop is not None and line >= self.stop:
                return


def count_lines(data: bytes) -> int:
    """A last line without its newline counts too."""
    return data.count(b"\n") + (not data.endswith(b"\n") if data else 0)


def lines_of(path: Path) -> int:
    """
    Raises:
        DataError: the file cannot be unpacked.
    """
    return sum(map(count_lines, _whole_lines(path)))


def _whole_lines(path: Path) -> Iterator[bytes]:
    rest = b""
    with _opened(path) as file:
        try:
            while data := file.read(BLOCK_BYTES):
                end = data.rfind(b"\n") + 1
                if end:
                    yield rest + data[:end]
                    rest = data[end:]
                else:
                    rest += data
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path} is damaged ({error}): fetch it again") from error
    if rest:
        yield rest


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _cut(data: bytes, first: int, last: int, count: int) -> bytes:
    """Lines ``first`` to ``last`` of ``count``."""
    start = _line_start(data, first) if first else 0
    return data[start : _line_start(data, last) if last < count else len(data)]


def _line_start(data: bytes, line: int) -> int:
    """Where a line begins, by halves: counting newlines is fast, stepping over each is not."""
    low, high = 0, len(data)  # the newline that ends line - 1 is in data[low:high]
    left = line
    while high - low > 4096:
        middle = (low + high) // 2
        found = data.count(b"\n", low, middle)
        if found >= left:
            high = middle
        else:
            low, left = middle, left - found
    place = low - 1
    for _ in range(left):
        place = data.index(b"\n", place + 1)
    return place + 1
