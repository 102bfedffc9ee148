"""Figures over all rows, added up block by block: what statistics and the quality report are made of."""

from dataclasses import dataclass, field

import numpy as np

from recray.arrays import Float32s, Float64s, Int64s
from recray.data.row_block import MultiHot, RowBlock
from recray.data.rows.table import DenseStats
from recray.schema import RowSchema

SLICES = 50  # of a part, for its rate of positives along the file


@dataclass
class PartTally:
    """One part; the arrays of F follow the schema's dense features, those per name its sparse ones."""

    num_dense: int
    rows: int = 0
    units: int = 0
    ordered: int = 0  # sessions whose rows differ in their labels
    labels: dict[float, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)  # rows whose only id is 0, or without any
    blocks: list[tuple[int, int]] = field(default_factory=list)  # rows and positives, in order

    def __post_init__(self) -> None:
        self.present_F: Int64s = np.zeros(self.num_dense, np.int64)
        self.mean_F: Float64s = np.zeros(self.num_dense)
        self.squares_F: Float64s = np.zeros(self.num_dense)  # of the distances from the mean
        self.low_F: Float64s = np.full(self.num_dense, np.inf)
        self.high_F: Float64s = np.full(self.num_dense, -np.inf)

    @property
    def positives(self) -> int:
        return sum(count for label, count in self.labels.items() if label > 0)

    def add(self, block: RowBlock) -> None:
        self.rows += len(block)
        self.units += block.num_units
        if block.offsets_S is not None:
            within_N = np.repeat(np.arange(block.num_units), np.diff(block.offsets_S))
            changes_N = (np.diff(block.labels_N) != 0) & (np.diff(within_N) == 0)
            self.ordered += len(np.unique(within_N[1:][changes_N]))
        labels, counts = np.unique(block.labels_N, return_counts=True)
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
            self.labels[label] = self.labels.get(label, 0) + count
        self.blocks.append((len(block), int(counts[labels > 0].sum())))
        for name, ids in block.ids.items():
            if isinstance(ids, MultiHot):
                known = np.diff(np.concatenate([[0], np.cumsum(ids.values != 0)])[ids.offsets_N]) > 0
                unknown = int(len(block) - known.sum())
            else:
                unknown = int((ids == 0).sum())
            self.unknown[name] = self.unknown.get(name, 0) + unknown
        self._add_dense(block.dense_NF)

    def _add_dense(self, dense_NF: Float32s) -> None:
        """Chan, Golub and LeVeque 1979: means and squared distances of two samples joined."""
        for f in range(self.num_dense):
            values = dense_NF[:, f].astype(np.float64)
            values = values[~np.isnan(values)]
            if not len(values):
                continue
            before, added = self.present_F[f], len(values)
            mean = values.mean()
            shift = mean - self.mean_F[f]
            self.present_F[f] += added
            self.mean_F[f] += shift * added / self.present_F[f]
            self.squares_F[f] += np.square(values - mean).sum()
            self.squares_F[f] += shift**2 * before * added / self.present_F[f]
            self.low_F[f] = min(self.low_F[f], values.min())
            self.high_F[f] = max(self.high_F[f], values.max())

    def dense_stats(self, schema: RowSchema) -> tuple[DenseStats, ...]:
        """A column without any value has the statistics of a constant 0."""
        present_F = np.maximum(self.present_F, 1)
        std_F = np.sqrt(self.squares_F / present_F)
        empty_F = self.present_F == 0
        return tuple(
            DenseStats(
                name=name,
                low=0.0 if empty_F[f] else float(self.low_F[f]),
                high=0.0 if empty_F[f] else float(self.high_F[f]),
                mean=float(self.mean_F[f]),
                std=float(std_F[f]),
                missing=1.0 - float(self.present_F[f]) / max(self.rows, 1),
            )
            for f, name in enumerate(schema.dense)
        )

    def rates(self) -> list[float]:
        """Share of positives in each of at most ``SLICES`` stretches of the part."""
        rows, positives = np.array(self.blocks or [(0, 0)]).T
        stretch = np.minimum(np.cumsum(rows) * SLICES // max(self.rows, 1), SLICES - 1)
        sums = np.bincount(stretch, weights=positives), np.bincount(stretch, weights=rows)
        return [float(p / n) for p, n in zip(*sums, strict=True) if n]


@dataclass
class IdTally:
    """How often each id of each sparse feature occurs in the training part."""

    counts: dict[str, Int64s]

    @staticmethod
    def of(schema: RowSchema) -> "IdTally":
        return IdTally({f.name: np.zeros(f.size, np.int64) for f in schema.sparse})

    def add(self, block: RowBlock) -> None:
        for name, ids in block.ids.items():
            values = ids.values if isinstance(ids, MultiHot) else ids
            found = np.bincount(values)
            self.counts[name][: len(found)] += found
