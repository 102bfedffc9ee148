"""Category values to table rows: hashed, or a vocabulary of what is frequent in training."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from recray.arrays import Int32s, Int64s, UInt32s
from recray.config import ConfigError
from recray.data.row_block import RowBlock, SparseIds
from recray.data.row_encoding import RowEncoding
from recray.data.sources.clicks.criteo_text import CATEGORIES, DENSE, Category, ClickLines
from recray.schema import RowSchema, SparseFeature


@dataclass(frozen=True, kw_only=True)
class ClickOptions:
    """How lines become rows; shared by the readers of Criteo's format."""

    ids: Literal["vocabulary", "hashed"] = "vocabulary"
    """vocabulary: an id for each value that is frequent enough in the training part, 0 for the others;
    reads the training part twice. hashed: a bucket for each value, shared by chance; 0 if missing."""
    min_count: int = 10
    """vocabulary: training rows that a value needs for an id of its own."""
    buckets: int = 100_000
    """hashed: size of every table."""
    max_malformed: float = 0.001
    """Share of malformed lines past which preparation stops."""

    def __post_init__(self) -> None:
        if self.ids not in ("vocabulary", "hashed"):
            raise ConfigError(f"ids must be 'vocabulary' or 'hashed', got {self.ids!r}")
        if self.min_count < 1:
            raise ConfigError(f"min_count must be at least 1, got {self.min_count}")
        if not 2 <= self.buckets < 2**31:
            raise ConfigError(f"buckets must be at least 2 and below 2^31, got {self.buckets}")
        if not 0 <= self.max_malformed <= 1:
            raise ConfigError(f"max_malformed must be between 0 and 1, got {self.max_malformed}")

    def line_options(self) -> dict[str, Any]:
        """The options that count, JSON-ready."""
        size = {"min_count": self.min_count} if self.ids == "vocabulary" else {"buckets": self.buckets}
        return {"ids": self.ids, **size, "max_malformed": self.max_malformed}


class Hashed(NamedTuple):
    buckets: int

    def size(self, feature: int) -> int:
        return self.buckets

    def ids(self, feature: int, category: Category) -> Int32s:
        """1 .. buckets - 1 by MurmurHash3's finalizer of value and feature, 0 where missing."""
        hash_N = category.values_N ^ np.uint32(feature * 0x9E3779B1 & 0xFFFFFFFF)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            hash_N = (hash_N ^ hash_N >> np.uint32(shift)) * np.uint32(factor)
        hash_N ^= hash_N >> np.uint32(16)
        ids_N = (hash_N % np.uint32(self.buckets - 1) + np.uint32(1)).astype(np.int32)
        ids_N[category.missing_N] = 0
        return ids_N


class Vocabulary(NamedTuple):
    """Of each feature the values that have ids, ascending, and those ids: 1 for the most frequent."""

    values: tuple[UInt32s, ...]
    numbers: tuple[Int32s, ...]

    def size(self, feature: int) -> int:
        return len(self.values[feature]) + 1

    def ids(self, feature: int, category: Category) -> Int32s:
        values, numbers = self.values[feature], self.numbers[feature]
        if not len(values):
            return np.zeros(len(category.values_N), np.int32)
        places_N = np.minimum(np.searchsorted(values, category.values_N), len(values) - 1)
        known_N = (values[places_N] == category.values_N) & ~category.missing_N
        ids_N: Int32s = np.where(known_N, numbers[places_N], 0).astype(np.int32)
        return ids_N

    def spelt(self) -> RowEncoding:
        """The same for lines that are asked for one by one: values as Criteo writes them."""
        ordered = (v[np.argsort(n)] for v, n in zip(self.values, self.numbers, strict=True))
        texts = tuple(tuple(f"{value:08x}" for value in values.tolist()) for values in ordered)
        return RowEncoding(numbers=DENSE, categories=CATEGORIES, values=texts)


Encoding = Hashed | Vocabulary


def schema_of(encoding: Encoding) -> RowSchema:
    return RowSchema(
        dense=DENSE,
        sparse=tuple(SparseFeature(name=n, size=encoding.size(f)) for f, n in enumerate(CATEGORIES)),
    )


def encode(schema: RowSchema, encoding: Encoding, lines: ClickLines) -> RowBlock:
    ids: dict[str, SparseIds] = {
        name: encoding.ids(f, lines.categories[f]) for f, name in enumerate(CATEGORIES)
    }
    return RowBlock(schema, lines.dense_NF, ids, lines.labels_N)


class ValueCounts(NamedTuple):
    values: UInt32s  # ascending
    counts: Int64s


def count_values(lines: ClickLines) -> list[ValueCounts]:
    """How often each value of each category occurs."""
    return [
        ValueCounts(*np.unique(category.values_N[~category.missing_N], return_counts=True))
        for category in lines.categories
    ]


def fit_vocabulary(counted: Iterable[list[ValueCounts]], min_count: int) -> Vocabulary:
    """Memory is that of the distinct values, not of the rows."""
    totals = [_Total() for _ in CATEGORIES]
    for block in counted:
        for total, counts in zip(totals, block, strict=True):
            total.add(counts)
    kept_values, kept_numbers = [], []
    for total in totals:
        found = total.merged()
        frequent = found.counts >= min_count
        order = np.argsort(-found.counts[frequent], kind="stable")
        numbers = np.empty(len(order), np.int32)
        numbers[order] = np.arange(1, len(order) + 1)
        kept_values.append(found.values[frequent])
        kept_numbers.append(numbers)
    return Vocabulary(tuple(kept_values), tuple(kept_numbers))


class _Total:
    """Counts added up; what was added waits until it is as much as what is there."""

    def __init__(self) -> None:
        self._total = ValueCounts(np.empty(0, np.uint32), np.empty(0, np.int64))
        self._waiting: list[ValueCounts] = []

    def add(self, counts: ValueCounts) -> None:
        self._waiting.append(counts)
        if sum(len(each.values) for each in self._waiting) > max(len(self._total.values), 1 << 16):
            self.merged()

    def merged(self) -> ValueCounts:
        every = [self._total, *self._waiting]
        values = np.concatenate([each.values for each in every])
        counts = np.concatenate([each.counts for each in every])
        order = np.argsort(values, kind="stable")
        values, counts = values[order], counts[order]
        starts = (
            np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else np.empty(0, np.int64)
        )
        sums = np.add.reduceat(counts, starts) if len(starts) else np.empty(0, np.int64)
        self._total, self._waiting = ValueCounts(values[starts], sums), []
        return self._total
