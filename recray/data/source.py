"""What a reader of raw files promises to ``prepare``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import polars as pl

ABSOLUTE_TIMES = "unix seconds"
TIMES_PER_USER = "seconds since each user's first event"
ROW_NUMBERS = "row numbers of the raw file"
POSITIONS = "positions in each user's sequence"
NO_CLOCK = (ROW_NUMBERS, POSITIONS)  # an order, but no times: nothing between two of them is a wait


@dataclass(frozen=True, kw_only=True)
class RawTables:
    """Valid but untidied data, in the order of the raw file.

    ``interactions``: ``user`` and ``item`` (integers or strings), ``rating`` Float32, finite, 1.0
    where there is none, ``timestamp`` Int64 in ticks, not negative; no nulls. Where the source has them also
    ``event_type`` String (what the user did) and ``part`` Int8 (0, 1, 2: the training, validation and test
    file of a benchmark). ``users`` and ``items``: ``raw_id`` String and side columns; both may be empty
    and may list ids that never interact.
    """

    interactions: pl.DataFrame
    users: pl.DataFrame = field(default_factory=lambda: no_side_table())
    items: pl.DataFrame = field(default_factory=lambda: no_side_table())
    rating_range: tuple[float, float] | None = None  # None: no range is known
    times: str = ABSOLUTE_TIMES
    ticks_per_s: int = 1  # of ``timestamp``: order and copies go by the finest time that there is
    catalogue: bool = False  # items that never interact are part of the catalogue all the same
    notes: tuple[str, ...] = ()  # what the reader did to the values, for the quality report
    side_types: dict[str, str] = field(default_factory=dict)  # item.brand -> category: as it was found to be
    files: dict[str, str] = field(default_factory=dict)  # raw file name -> checksum, where computed


class Events(NamedTuple):
    """Rows as a reader gives them."""

    rows: pl.DataFrame  # the columns of ``RawTables.interactions``, and ``item.<column>`` as they were
    ticks_per_s: int  # of the times; 0: there are none, and rows are numbered
    notes: tuple[str, ...]


class Slice(Protocol):
    """Some of a source's rows; travels to whoever reads them."""

    @property
    def first_row(self) -> int:
        """Of all rows of the source."""

    def read(self) -> Events:
        """
        Raises:
            DataError: as ``Source.read``.
        """


class Source(Protocol):
    """One raw data set. Frozen dataclasses in ``sources/``."""

    @property
    def name(self) -> str:
        """Name of the data set, for manifests and tables of results."""

    @property
    def reader(self) -> str:
        """Name of the reader, e.g. ``movielens``."""

    def options(self) -> dict[str, Any]:
        """All that decides the outcome, JSON-ready: equal options mean equal data."""

    def read(self, scratch: Path) -> RawTables:
        """Locates (or downloads) and parses the raw files; ``scratch`` is an empty folder that is
        removed afterwards.

        Raises:
            DataError: naming the file, the line or column, and the way out.
        """


@runtime_checkable
class InSlices(Source, Protocol):
    """A source that need not be read as a whole."""

    def slices(self, scratch: Path, rows: int) -> Sequence[Slice]:
        """Together all rows, in order, of at most so many each.

        Raises:
            DataError: as ``read``; the files are of a kind that is read as a whole.
        """

    def beside(self, users: pl.Series, items: pl.Series, scratch: Path) -> RawTables:
        """What there is beside the events, whose raw ids are given; ``interactions`` is empty.

        Raises:
            DataError: as ``read``.
        """


def no_side_table() -> pl.DataFrame:
    return pl.DataFrame(schema={"raw_id": pl.String})
