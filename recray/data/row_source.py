"""What a reader of rows to rank promises to ``prepare_rows``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from recray.data.row_block import RowBlock
from recray.data.row_encoding import RowEncoding
from recray.schema import RowSchema

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
SAMPLES = 20  # malformed lines that the quality report shows
SAMPLE_LETTERS = 200


@dataclass
class Malformed:
    """Lines that are no rows: left out, counted, and a few of them kept to look at."""

    lines: int = 0  # read so far, good or bad
    count: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)  # file, line, what is wrong, its text

    def add(self, file: str, line: int, problem: str, text: str) -> None:
        self.count += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(
                {"file": file, "line": line, "problem": problem, "text": text[:SAMPLE_LETTERS]}
            )


@dataclass(frozen=True, kw_only=True)
class RawRows:
    """Valid rows, part by part. Each part is iterated once, in the order train, validation, test."""

    schema: RowSchema
    parts: Mapping[Part, Iterable[RowBlock]]
    split: str  # for protocol cards, e.g. "global-time(0.8,0.1,0.1)"
    shuffle_train: bool = False  # lay the rows of each training shard in random order
    malformed: Malformed = field(default_factory=Malformed)  # complete once the parts were iterated
    facts: dict[str, Any] = field(default_factory=dict)  # for the manifest's options
    encoding: RowEncoding | None = None  # raw values -> ids, where a served model can be given them


class RowSource(Protocol):
    """One raw data set of rows to rank. Frozen dataclasses in ``sources/``."""

    @property
    def name(self) -> str:
        """Name of the data set, for manifests and tables of results."""

    @property
    def reader(self) -> str:
        """Name of the reader, e.g. ``criteo``."""

    def options(self) -> dict[str, Any]:
        """All that decides the outcome, JSON-ready: equal options mean equal rows."""

    def rows(self, scratch: Path) -> RawRows:
        """Locates and parses the raw files; ``scratch`` is an empty folder that is removed afterwards.

        Raises:
            DataError: naming the file, the line or column, and the way out.
        """
