"""The prepared folder of rows to rank: its format, and how it is read.

``manifest.json``, ``quality.json``, ``quality.html``, where raw values are known ``encoding.json``, and per
part (train, validation, test) the shards ``<part>-00000.parquet``: up to 64 row groups of up to 4,096 rows,
sessions whole. One float32 column per dense feature (NaN where missing), int32 (a list where multi-hot) per
sparse feature, ``label`` float32 and, where rows come in sessions, ``session`` int64. See ``writer.py``.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recray.config import ConfigError, from_dict, nearest, to_dict
from recray.data.events.dataset import MANIFEST
from recray.data.row_block import LABEL, SESSION, RowBlock
from recray.data.row_encoding import ENCODING, RowEncoding, read_encoding
from recray.data.row_source import PARTS
from recray.schema import DataError, Learnt, RowSchema

KIND, FORMAT = "rows", 1
_LEARNT: dict[Learnt, int] = {"training": 1, "before test": 2, "all": 3}  # so many of the parts


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One Parquet file of a part."""

    file: str
    size_bytes: int
    rows: tuple[int, ...]  # of each row group
    units: tuple[int, ...]  # sessions, or rows, of each row group


@dataclass(frozen=True, kw_only=True)
class PartInfo:
    name: str
    rows: int
    units: int  # sessions, or rows where they stand alone
    positives: int  # rows with a label above 0
    shards: tuple[Shard, ...]


@dataclass(frozen=True, kw_only=True)
class DenseStats:
    """Of a dense column over the training part, missing values left out."""

    name: str
    low: float
    high: float
    mean: float
    std: float
    missing: float  # share of the rows


@dataclass(frozen=True, kw_only=True)
class RowManifest:
    """What the folder holds. Written last: a folder without it is not prepared."""

    name: str
    source: str  # the reader that made it, e.g. "criteo"
    schema: RowSchema
    split: str  # for protocol cards
    parts: tuple[PartInfo, ...]
    dense: tuple[DenseStats, ...]  # in the order of the schema; fitted on train only
    options: dict[str, Any]
    hash: str  # sha256 over the columns of all parts and what their ids stand for
    created_at: str  # ISO 8601, UTC
    kind: str = KIND
    format: int = FORMAT


class RowGroup(NamedTuple):
    """Where a row group of a part is."""

    file: str
    place: int  # within the file
    rows: int
    units: int


@dataclass(frozen=True)
class RowTable:
    """A prepared folder; nothing of it is in memory but the manifest."""

    folder: Path
    manifest: RowManifest

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def schema(self) -> RowSchema:
        return self.manifest.schema

    @property
    def hash(self) -> str:
        return self.manifest.hash

    @property
    def dense(self) -> tuple[DenseStats, ...]:
        """Statistics of the training part, per dense column."""
        return self.manifest.dense

    @property
    def encoding(self) -> RowEncoding | None:
        """How raw values became rows, where a served model can be given them."""
        path = self.folder / ENCODING
        return read_encoding(path) if path.is_file() else None

    def num_rows(self, part: str) -> int:
        return self.info(part).rows

    def num_units(self, part: str) -> int:
        """Sessions, or rows where they stand alone."""
        return self.info(part).units

    def info(self, part: str) -> PartInfo:
        """
        Raises:
            ConfigError: there is no such part.
        """
        for info in self.manifest.parts:
            if info.name == part:
                return info
        raise ConfigError(f"no part {part!r} of {self.name}{nearest(part, PARTS)}")

    def learning(self, what: Learnt, *, only_new: bool = False) -> "RowTable":
        """The same files with more of them in the training part. Ids and statistics stay as the training part
        made them: a value that only later rows have is unknown, as it is when the model is served.

        Args:
            only_new: what was the training part is in none.
        """
        parts, count = self.manifest.parts, _LEARNT[what]
        emptied = (replace(info, rows=0, units=0, positives=0, shards=()) for info in parts[1:count])
        taught, left = parts[only_new:count], parts[count:]
        train = PartInfo(
            name=parts[0].name,
            rows=sum(info.rows for info in taught),
            units=sum(info.units for info in taught),
            positives=sum(info.positives for info in taught),
            shards=tuple(shard for info in taught for shard in info.shards),
        )
        return replace(self, manifest=replace(self.manifest, parts=(train, *emptied, *left)))

    def groups(self, part: str) -> list[RowGroup]:
        """Every row group of a part, in the order of the source."""
        return [
            RowGroup(shard.file, place, rows, units)
            for shard in self.info(part).shards
            for place, (rows, units) in enumerate(zip(shard.rows, shard.units, strict=True))
        ]

    def read(self, part: str) -> RowBlock:
        """The whole part in memory, in the order of the source."""
        return RowBlock.concat([RowBlock.empty(self.schema), *self.blocks(part)])

    def has_order(self, part: str) -> bool:
        """Whether rows of some session differ in their labels, so that there is an order to learn."""
        for shard in self.info(part).shards:
            with open_shard(self.folder / shard.file) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=[LABEL, SESSION])
                    labels_N, sessions_N = table[LABEL].to_numpy(), table[SESSION].to_numpy()
                    if ((np.diff(labels_N) != 0) & (np.diff(sessions_N) == 0)).any():
                        return True
        return False

    def blocks(self, part: str) -> Iterator[RowBlock]:
        """The part shard by shard."""
        for shard in self.info(part).shards:
            with open_shard(self.folder / shard.file) as file:
                yield RowBlock.from_table(self.schema, file.read())


@contextmanager
def open_shard(path: Path) -> Iterator[pq.ParquetFile]:
    """A shard for reading; checksums of its pages are verified as they are read.

    Raises:
        DataError: the file is missing, or its bytes are not the ones that were written.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} is missing or damaged ({reason}): delete {path.parent} and prepare it again"
        ) from error


def load_rows(folder: Path) -> RowTable:
    """
    Raises:
        DataError: the folder is not a prepared folder of rows, or a file of it is missing or cut off.
    """
    manifest = read_row_manifest(folder)
    for info in manifest.parts:
        for shard in info.shards:
            path = folder / shard.file
            size = path.stat().st_size if path.is_file() else -1
            if size != shard.size_bytes:
                found = "is missing" if size < 0 else f"has {size} bytes, manifest says {shard.size_bytes}"
                raise DataError(f"{path} {found}: delete {folder} and prepare it again")
    return RowTable(folder, manifest)


def read_row_manifest(folder: Path) -> RowManifest:
    """
    Raises:
        DataError: there is none, or it is not one that this version can read.
    """
    path = folder / MANIFEST
    again = f"delete {folder} and prepare it again"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder} is not prepared: it has no {MANIFEST}; prepare it first") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): {again}") from error
    if not is_row_manifest(values):
        raise DataError(f"{folder} holds no rows to rank: choose another folder, or {again}")
    if values.get("format") != FORMAT:
        raise DataError(f"{path} has format {values.get('format')}, this version reads {FORMAT}: {again}")
    try:
        return from_dict(RowManifest, values)
    except ConfigError as error:
        raise DataError(f"{path} is damaged ({error}): {again}") from error


def is_row_manifest(values: object) -> bool:
    return isinstance(values, dict) and values.get("kind") == KIND


def write_row_manifest(folder: Path, manifest: RowManifest) -> None:
    text = json.dumps(to_dict(manifest), ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
