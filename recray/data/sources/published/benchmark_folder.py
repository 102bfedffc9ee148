"""A benchmark's own split: a folder with files called train, valid and test.

Each is a table, or lines of a user and its items as LightGCN's data sets have them (He et al., SIGIR 2020).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from recray.config import from_dict
from recray.data.source import ABSOLUTE_TIMES, ROW_NUMBERS, RawTables
from recray.data.sources.files.locations import kind_of, unique_name
from recray.data.sources.files.raw_files import fingerprint
from recray.data.sources.published.sequences_text import SequenceText
from recray.data.sources.tables.interactions import InteractionTable
from recray.data.sources.tables.parts import LINES, benchmark_parts, not_read
from recray.data.sources.tables.values import numbers_where_all_are
from recray.folders import file_sha256
from recray.schema import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BenchmarkFolder:
    path: Path
    name: str = ""  # "": of the path
    table: Mapping[str, object] = field(default_factory=dict)  # options of tables: columns, dialect, items...

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or unique_name(self.path))
        self._sources()

    @property
    def reader(self) -> str:
        return "benchmark"

    def options(self) -> dict[str, Any]:
        files = [fingerprint(path) for path in benchmark_parts(self.path).values()]
        return {"files": files, "parts": [source.options() for source in self._sources().values()]}

    def _sources(self) -> dict[int, InteractionTable | SequenceText]:
        """A reader for each part; items and users are told once, beside the training part."""
        beside = ("items", "users", "item_id", "user_id", "item_types", "user_types")
        found: dict[int, InteractionTable | SequenceText] = {}
        for part, path in sorted(benchmark_parts(self.path).items()):
            if kind_of(path.name) == LINES:
                found[part] = SequenceText(path=path, allow_empty=True)
            else:
                mine = {key: value for key, value in self.table.items() if not part or key not in beside}
                found[part] = from_dict(InteractionTable, {**mine, "path": path})
        return found

    def _named(self) -> list[str]:
        """Tables of items and users."""
        return [Path(str(self.table[key])).name for key in ("items", "users") if self.table.get(key)]

    def read(self, scratch: Path) -> RawTables:
        """All parts as one table, in order of the parts where there are no times."""
        others = {path for path in not_read(self.path) if path.name not in self._named()}
        if others:
            log.warning(
                "%s: not read, as they are called neither train, valid nor test: %s (items=NAME and "
                "users=NAME name tables of those)",
                *(self.path, ", ".join(sorted(path.name for path in others))),
            )
        parts = {part: source.read(scratch) for part, source in self._sources().items()}
        raw = list(parts.values())
        if len({tables.times for tables in raw}) > 1 or len({*(t.interactions.width for t in raw)}) > 1:
            raise DataError(
                f"{self.path}: its files have not the same columns: give each time and event type"
            )
        ticks_per_s = max(tables.ticks_per_s for tables in raw)
        frames = [
            tables.interactions.with_columns(
                pl.col("timestamp") * (ticks_per_s // tables.ticks_per_s),
                pl.lit(part, pl.Int8).alias("part"),
            )
            for part, tables in parts.items()
        ]
        events = pl.concat(_same_ids(frames))
        if raw[0].times != ABSOLUTE_TIMES:
            events = _in_order(events, raw[0].times)
        ids = [numbers_where_all_are(events[r]) for r in ("user", "item") if events[r].dtype == pl.String]
        return replace(
            raw[0],
            interactions=events.with_columns(ids),
            ticks_per_s=ticks_per_s,
            notes=tuple(note for tables in raw for note in tables.notes),
            files={p.name: f"sha256:{file_sha256(p)}" for p in benchmark_parts(self.path).values()},
        )


def _same_ids(frames: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """Ids are text in all parts where they are in one."""
    as_text = [role for role in ("user", "item") if any(frame[role].dtype == pl.String for frame in frames)]
    return [frame.with_columns(pl.col(as_text).cast(pl.String)) for frame in frames]


def _in_order(events: pl.DataFrame, times: str) -> pl.DataFrame:
    """Orders without a clock go on from part to part: of all rows, or of each user."""
    if times == ROW_NUMBERS:
        return events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("timestamp"))
    ends = events.group_by("user", "part").agg(pl.col("timestamp").max() + 1)
    starts = ends.sort("user", "part").select(
        "user", "part", (pl.col("timestamp").cum_sum().over("user") - pl.col("timestamp")).alias("start")
    )
    joined = events.join(starts, on=["user", "part"], how="left", maintain_order="left")
    return joined.with_columns(pl.col("timestamp") + pl.col("start")).drop("start")
