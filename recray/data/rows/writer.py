"""Blocks of rows to the shards of a prepared folder, adding up what the manifest states."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recray.config import to_dict
from recray.data.row_block import MultiHot, RowBlock, session_groups
from recray.data.row_encoding import RowEncoding
from recray.data.row_source import Part
from recray.data.rows.table import PartInfo, Shard
from recray.data.rows.tally import IdTally, PartTally
from recray.schema import DataError, RowSchema

GROUP_ROWS = 4096
SHARD_GROUPS = 64
SHARD_ROWS = GROUP_ROWS * SHARD_GROUPS


class RowWriter:
    """Writes the parts of one folder, each once, block by block in constant memory."""

    def __init__(self, folder: Path, schema: RowSchema) -> None:
        self.folder, self.schema = folder, schema
        self.tallies: dict[str, PartTally] = {}
        self.ids = IdTally.of(schema)  # of the training part
        self.parts: list[PartInfo] = []
        self._digests: dict[str, Any] = {}

    def write(self, part: Part, blocks: Iterable[RowBlock], *, shuffle: bool = False) -> None:
        """
        Args:
            shuffle: lay the units of each shard (262,144 rows) in random order, the same every time:
                whoever streams the part then gets batches that mix far-apart rows at no cost.

        Raises:
            DataError: an id that its table does not have, or an empty part.
        """
        tally = self.tallies[part] = PartTally(len(self.schema.dense))
        shards: list[Shard] = []
        for number, block in enumerate(_regrouped(self._counted(part, blocks))):
            if shuffle:
                block = block.select(np.random.default_rng([0, number]).permutation(block.num_units))
            first_session = sum(sum(shard.units) for shard in shards)
            shards.append(self._write_shard(f"{part}-{number:05d}.parquet", block, first_session))
        if not tally.rows:
            before = ", ".join(f"{info.rows:,} for {info.name}" for info in self.parts)
            raise DataError(
                f"no row is left for {part}{f' ({before})' if before else ''}: the raw data is too small, "
                "each part needs at least 1 row"
            )
        self.parts.append(
            PartInfo(
                name=part, rows=tally.rows, units=tally.units, positives=tally.positives, shards=tuple(shards)
            )
        )

    def content_hash(self, encoding: RowEncoding | None = None) -> str:
        """sha256 over the schema, what the ids stand for, and every column of every part, however they were
        cut into blocks."""
        whole = hashlib.sha256(json.dumps(self.schema.to_json(), sort_keys=True).encode())
        if encoding:
            whole.update(json.dumps(to_dict(encoding)).encode())
        for key in sorted(self._digests):
            whole.update(key.encode() + self._digests[key].digest())
        return whole.hexdigest()

    def _counted(self, part: Part, blocks: Iterable[RowBlock]) -> Iterator[RowBlock]:
        for block in blocks:
            if len(block):
                self._check(block)
                self._hash(part, block)
                self.tallies[part].add(block)
                if part == "train":
                    self.ids.add(block)
                yield block

    def _check(self, block: RowBlock) -> None:
        for feature in self.schema.sparse:
            ids = block.ids[feature.name]
            values = ids.values if isinstance(ids, MultiHot) else ids
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < feature.size:
                raise DataError(
                    f"{feature.name} has ids {values.min()}..{values.max()}, "
                    f"its table has 0..{feature.size - 1}"
                )

    def _hash(self, part: Part, block: RowBlock) -> None:
        columns: dict[str, Any] = {
            name: block.dense_NF[:, f].astype("<f4") for f, name in enumerate(self.schema.dense)
        }
        for name, ids in block.ids.items():
            if isinstance(ids, MultiHot):
                columns[f"{name}/lengths"] = np.diff(ids.offsets_N).astype("<i8")
            columns[name] = (ids.values if isinstance(ids, MultiHot) else ids).astype("<i4")
        columns["/labels"] = block.labels_N.astype("<f4")
        if block.offsets_S is not None:
            columns["/sessions"] = np.diff(block.offsets_S).astype("<i8")
        for name, column in columns.items():
            self._digests.setdefault(f"{part}/{name}", hashlib.sha256()).update(column.data)

    def _write_shard(self, name: str, block: RowBlock, first_session: int) -> Shard:
        if block.offsets_S is None:
            bounds = [(n, min(n + GROUP_ROWS, len(block))) for n in range(0, len(block), GROUP_ROWS)]
        else:
            bounds = session_groups(block.offsets_S, GROUP_ROWS)
        table, rows, units = block.to_table(first_session), [], []
        # Ids and counts are close to random: dictionaries and statistics only cost time.
        with pq.ParquetWriter(
            self.folder / name,
            table.schema,
            compression="lz4",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        ) as file:
            for start, stop in bounds:
                first, last = (start, stop) if block.offsets_S is None else block.offsets_S[[start, stop]]
                file.write_table(table.slice(first, last - first))
                rows.append(int(last - first))
                units.append(stop - start)
        size_bytes = (self.folder / name).stat().st_size
        return Shard(file=name, size_bytes=size_bytes, rows=tuple(rows), units=tuple(units))


def _regrouped(blocks: Iterable[RowBlock]) -> Iterator[RowBlock]:
    """The same rows in blocks of ``SHARD_ROWS``, or what whole sessions below that make."""
    held: list[RowBlock] = []
    for block in blocks:
        held.append(block)
        while sum(map(len, held)) >= SHARD_ROWS:
            whole = RowBlock.concat(held)
            units = SHARD_ROWS
            if whole.offsets_S is not None:
                units = session_groups(whole.offsets_S, SHARD_ROWS)[0][1]
            yield whole.slice(0, units)
            held = [whole.slice(units, whole.num_units)]
    rest = [block for block in held if len(block)]
    if rest:
        yield RowBlock.concat(rest)
