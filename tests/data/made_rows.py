"""Rows to rank made by hand, and lines in Criteo's format."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recray.arrays import Int32s
from recray.batch import RankingBatch
from recray.data.row_block import MultiHot, RowBlock
from recray.data.row_source import Part, RawRows
from recray.data.rows.prepare import prepare_rows
from recray.data.rows.table import RowTable
from recray.schema import RowSchema, SparseFeature

SPARSE = (SparseFeature(name="one", size=50), SparseFeature(name="many", size=9, multi_hot=True))


def block_of(num_rows: int, *, sessions: bool = False, first: int = 0, seed: int = 0) -> RowBlock:
    """Row n has the number ``first + n`` as its dense value x, so that it can be told from all others."""
    rng = np.random.default_rng([seed, first])
    lengths = rng.integers(0, 4, num_rows)
    ids: dict[str, Int32s | MultiHot] = {
        "one": rng.integers(0, 50, num_rows).astype(np.int32),
        "many": MultiHot(
            rng.integers(1, 9, lengths.sum()).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)])
        ),
    }
    y = np.where(rng.random(num_rows) < 0.2, np.nan, rng.normal(size=num_rows))
    dense_NF = np.stack([np.arange(first, first + num_rows), y], axis=1).astype(np.float32)
    offsets_S = None
    if sessions:
        cuts = np.cumsum(rng.integers(1, 30, num_rows))
        offsets_S = np.concatenate([[0], cuts[cuts < num_rows], [num_rows]])
    schema = RowSchema(dense=("x", "y"), sparse=SPARSE, sessions=sessions)
    return RowBlock(schema, dense_NF, ids, (rng.random(num_rows) < 0.3).astype(np.float32), offsets_S)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A source of such rows, each part cut into blocks of ``cut`` units."""

    sizes: dict[Part, int] = field(default_factory=lambda: {"train": 9000, "validation": 400, "test": 300})
    sessions: bool = False
    cut: int = 100_000
    shuffle_train: bool = False
    name: str = "made"
    reader: str = "made"

    def options(self) -> dict[str, Any]:
        return {"sizes": dict(self.sizes)}

    def rows(self, scratch: Path) -> RawRows:
        parts: dict[Part, Iterable[RowBlock]] = {}
        for n, (part, size) in enumerate(self.sizes.items()):
            whole = block_of(size, sessions=self.sessions, first=100_000 * n)
            starts = range(0, whole.num_units, self.cut)
            parts[part] = [whole.slice(s, min(s + self.cut, whole.num_units)) for s in starts]
        schema = RowSchema(dense=("x", "y"), sparse=SPARSE, sessions=self.sessions)
        return RawRows(schema=schema, parts=parts, split="made", shuffle_train=self.shuffle_train)


def table_of(folder: Path, **fields: Any) -> RowTable:
    return prepare_rows(Made(**fields), folder)


def same_batch(a: RankingBatch, b: RankingBatch) -> bool:
    """Bit-equal, NaN where NaN."""
    pairs: list[tuple[Tensor, Tensor]] = [
        (a.dense_BF.view(torch.int32), b.dense_BF.view(torch.int32)),
        (a.sparse.values_N, b.sparse.values_N),
        (a.sparse.lengths_FB, b.sparse.lengths_FB),
        (a.labels_B, b.labels_B),
    ]
    if a.offsets_S is not None and b.offsets_S is not None:
        pairs.append((a.offsets_S, b.offsets_S))
    return a.total == b.total and a.sparse.keys == b.sparse.keys and all(torch.equal(x, y) for x, y in pairs)


def numbers(batches: Iterable[RankingBatch]) -> list[int]:
    """Which rows the batches hold, in order."""
    return [int(x) for batch in batches for x in batch.dense_BF[:, 0].tolist()]


def click_line(label: str = "1", dense: str = "1", category: str = "0a0b0c0d", **changes: str) -> str:
    """A line of Criteo's format; ``changes`` by column, e.g. ``C3="0000000f"``."""
    columns = {"label": label} | {f"I{n}": dense for n in range(1, 14)}
    columns |= {f"C{n}": category for n in range(1, 27)}
    assert set(changes) <= set(columns)
    return "\t".join({**columns, **changes}.values())
