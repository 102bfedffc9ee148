"""Some rows to rank as columns in memory: what sources make, folders hold and batches are cut from.

A *unit* is what batches count and never split: a session where the schema has them, else a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from recray.arrays import Float32s, Int32s, Int64s
from recray.batch import KeyedJagged, RankingBatch
from recray.schema import RowSchema

LABEL, SESSION = "label", "session"


class MultiHot(NamedTuple):
    """Any number of ids per row: row n has ``values[offsets_N[n]:offsets_N[n + 1]]``."""

    values: Int32s
    offsets_N: Int64s  # N + 1 entries, first 0


SparseIds = Int32s | MultiHot
Picked = Int64s | slice


@dataclass(frozen=True)
class RowBlock:
    """N rows; ``ids`` has one entry per sparse feature of the schema, in its order."""

    schema: RowSchema
    dense_NF: Float32s  # NaN where missing
    ids: Mapping[str, SparseIds]
    labels_N: Float32s
    offsets_S: Int64s | None = None  # rows of session s; None: rows stand alone

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def num_units(self) -> int:
        return len(self) if self.offsets_S is None else len(self.offsets_S) - 1

    def select(self, units: Int64s) -> "RowBlock":
        """These units, in this order."""
        if self.offsets_S is None:
            return self._rows(units, None)
        rows, offsets_S = _ranges(self.offsets_S, units)
        return self._rows(rows, offsets_S)

    def slice(self, start: int, stop: int) -> "RowBlock":
        """Units ``start`` to ``stop``, without copying."""
        offsets_S = None
        if self.offsets_S is not None:
            offsets_S = self.offsets_S[start : stop + 1]
            start, stop = int(offsets_S[0]), int(offsets_S[-1])
            offsets_S = offsets_S - start
        return self._rows(slice(start, stop), offsets_S)

    def to_batch(self, total: int = 0) -> RankingBatch:
        """The rows as tensors; ``total`` counts the units of the global batch."""
        columns = [ids.values if isinstance(ids, MultiHot) else ids for ids in self.ids.values()]
        lengths_FB = np.ones((len(columns), len(self)), dtype=np.int64)
        for f, ids in enumerate(self.ids.values()):
            if isinstance(ids, MultiHot):
                lengths_FB[f] = np.diff(ids.offsets_N)
        values = np.concatenate(columns, dtype=np.int64) if columns else np.empty(0, np.int64)
        sparse = KeyedJagged(tuple(self.ids), torch.from_numpy(values), torch.from_numpy(lengths_FB))
        offsets_S = None if self.offsets_S is None else torch.from_numpy(self.offsets_S)
        # Columns of Parquet files cannot be written to, which tensors do not know.
        dense_BF, labels_B = (
            torch.from_numpy(np.require(x, requirements=["C", "W"])) for x in (self.dense_NF, self.labels_N)
        )
        return RankingBatch(dense_BF, sparse, labels_B, offsets_S, total)

    def to_table(self, first_session: int = 0) -> pa.Table:
        """One column per feature; sessions are numbered from ``first_session``."""
        columns = {name: pa.array(self.dense_NF[:, f]) for f, name in enumerate(self.schema.dense)}
        for name, ids in self.ids.items():
            if isinstance(ids, MultiHot):
                offsets = pa.array(ids.offsets_N, pa.int32())
                columns[name] = pa.ListArray.from_arrays(offsets, pa.array(ids.values))
            else:
                columns[name] = pa.array(ids)
        columns[LABEL] = pa.array(self.labels_N)
        if self.offsets_S is not None:
            numbers_S = np.arange(first_session, first_session + self.num_units)
            columns[SESSION] = pa.array(np.repeat(numbers_S, np.diff(self.offsets_S)))
        return pa.table(columns)

    @staticmethod
    def from_table(schema: RowSchema, table: pa.Table) -> "RowBlock":
        dense_NF = np.empty((len(table), len(schema.dense)), dtype=np.float32)
        for f, name in enumerate(schema.dense):
            dense_NF[:, f] = table[name].to_numpy()
        ids: dict[str, SparseIds] = {}
        for feature in schema.sparse:
            column = table[feature.name]
            ids[feature.name] = _multi_hot(column) if feature.multi_hot else column.to_numpy()
        offsets_S = _session_offsets(table[SESSION].to_numpy()) if schema.sessions else None
        return RowBlock(schema, dense_NF, ids, table[LABEL].to_numpy(), offsets_S)

    @staticmethod
    def concat(blocks: Sequence["RowBlock"]) -> "RowBlock":
        if len(blocks) == 1:
            return blocks[0]
        ids: dict[str, SparseIds] = {}
        for name, first in blocks[0].ids.items():
            parts = [block.ids[name] for block in blocks]
            if isinstance(first, MultiHot):
                hot = [part for part in parts if isinstance(part, MultiHot)]
                values = np.concatenate([part.values for part in hot])
                ids[name] = MultiHot(values, _joined([part.offsets_N for part in hot]))
            else:
                ids[name] = np.concatenate([part for part in parts if not isinstance(part, MultiHot)])
        offsets = [block.offsets_S for block in blocks if block.offsets_S is not None]
        return RowBlock(
            blocks[0].schema,
            np.concatenate([block.dense_NF for block in blocks]),
            ids,
            np.concatenate([block.labels_N for block in blocks]),
            _joined(offsets) if offsets else None,
        )

    @staticmethod
    def empty(schema: RowSchema) -> "RowBlock":
        none = np.empty(0, np.int32)
        ids: dict[str, SparseIds] = {
            f.name: MultiHot(none, np.zeros(1, np.int64)) if f.multi_hot else none for f in schema.sparse
        }
        dense_NF = np.empty((0, len(schema.dense)), np.float32)
        offsets_S = np.zeros(1, np.int64) if schema.sessions else None
        return RowBlock(schema, dense_NF, ids, np.empty(0, np.float32), offsets_S)

    def _rows(self, rows: Picked, offsets_S: Int64s | None) -> "RowBlock":
        ids = {name: _take(column, rows) for name, column in self.ids.items()}
        return RowBlock(self.schema, self.dense_NF[rows], ids, self.labels_N[rows], offsets_S)


def _take(ids: SparseIds, rows: Picked) -> SparseIds:
    if not isinstance(ids, MultiHot):
        return ids[rows]
    if isinstance(rows, slice):
        offsets_N = ids.offsets_N[rows.start : rows.stop + 1]
        return MultiHot(ids.values[offsets_N[0] : offsets_N[-1]], offsets_N - offsets_N[0])
    places, offsets_N = _ranges(ids.offsets_N, rows)
    return MultiHot(ids.values[places], offsets_N)


def _ranges(offsets: Int64s, chosen: Int64s) -> tuple[Int64s, Int64s]:
    """Places of the chosen ranges laid end to end, and the offsets of what they make."""
    lengths = offsets[chosen + 1] - offsets[chosen]
    made = np.concatenate([[0], np.cumsum(lengths)])
    return np.arange(made[-1]) + np.repeat(offsets[chosen] - made[:-1], lengths), made


def _joined(offsets: Sequence[Int64s]) -> Int64s:
    lengths = np.concatenate([np.diff(each) for each in offsets])
    return np.concatenate([[0], np.cumsum(lengths)])


def _session_offsets(sessions_N: Int64s) -> Int64s:
    first = np.flatnonzero(np.diff(sessions_N)) + 1
    return np.concatenate([[0], first, [len(sessions_N)]]) if len(sessions_N) else np.zeros(1, np.int64)


def _multi_hot(column: pa.ChunkedArray) -> MultiHot:
    lists = column.combine_chunks()
    offsets_N = lists.offsets.to_numpy().astype(np.int64)
    return MultiHot(lists.values.to_numpy()[offsets_N[0] : offsets_N[-1]], offsets_N - offsets_N[0])


def session_groups(offsets_S: Int64s, most_rows: int) -> list[tuple[int, int]]:
    """Sessions ``start`` to ``stop`` of each group, of at most ``most_rows`` rows or one session."""
    bounds = [0]
    while bounds[-1] < len(offsets_S) - 1:
        fitting = int(np.searchsorted(offsets_S, offsets_S[bounds[-1]] + most_rows, side="right")) - 1
        bounds.append(max(fitting, bounds[-1] + 1))
    return list(pairwise(bounds))
