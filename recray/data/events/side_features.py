"""Side columns of users and items as the id and dense features that models take."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recray.batch import FeatureTables
from recray.data.events.dataset import Dataset
from recray.features.columns import kind_of, labels, repeats, unix_seconds, words
from recray.schema import Feature, FeatureSchema

MAX_TOKENS = 16  # of a title or text; more add little and cost memory on every item
MAX_LABELS = 16  # of a list column such as genres
_YEARS_PER_BUCKET = 5
_SKEWED = 1.0  # beyond it a positive number is read on a log scale: prices, sizes, counts


class ColumnEncoder(Protocol):
    """How one side column is read; also of rows that it was not made from."""

    @property
    def column(self) -> str: ...
    @property
    def feature(self) -> Feature: ...

    def encode(self, column: pl.Series) -> Tensor:
        """int64 ids or float32 values, [rows, width]."""


@dataclass(frozen=True)
class _Labelled:
    """An id for each label; those that are not numbered are left out."""

    column: str
    feature: Feature
    numbers: Mapping[str, int]  # from 1
    read: Callable[[pl.Series], Sequence[Iterable[str]]]

    def encode(self, column: pl.Series) -> Tensor:
        rows, width = self.read(column), self.feature.width
        ids = np.zeros((len(rows), width), dtype=np.int64)
        for r, row in enumerate(rows):
            known = [self.numbers[label] for label in row if label in self.numbers][:width]
            ids[r, : len(known)] = known
        return torch.from_numpy(ids)


@dataclass(frozen=True)
class _Scaled:
    """A standardised number, 0 where it is not known."""

    column: str
    feature: Feature
    is_skewed: bool
    mean: float
    spread: float

    def encode(self, column: pl.Series) -> Tensor:
        values = _numbers(column, self.is_skewed)
        scaled = ((values - self.mean) / self.spread).fill_null(0.0).cast(pl.Float32)
        return torch.from_numpy(scaled.to_numpy().copy()).unsqueeze(1)


def encode_side_features(dataset: Dataset) -> tuple[FeatureSchema, FeatureTables]:
    """Every side column by its kind (``features.columns``), the same way for every data set.

    Words: those that occur in at least two rows, the first 16 of each. Labels: an id for each. ``year``:
    five-year buckets. Integers that come back: one id per value. Other numbers: standardised dense values,
    0 where unknown; positive ones with a long tail, such as prices, by their logarithm. Dates: by their age
    before the latest one, an id for each doubling. Id 0 always means absent.
    """
    users, items = fit_side_features(dataset.users), fit_side_features(dataset.items)
    schema = FeatureSchema(
        num_users=dataset.num_users,
        num_items=dataset.num_items,
        user=tuple(e.feature for e in users),
        item=tuple(e.feature for e in items),
    )
    return schema, FeatureTables(
        user={e.feature.name: e.encode(dataset.users[e.column]) for e in users},
        item={e.feature.name: e.encode(dataset.items[e.column]) for e in items},
    )


def fit_side_features(table: pl.DataFrame) -> list[ColumnEncoder]:
    """How each column of a table of users or items is read, but for those that tell nothing."""
    return [encoder for column in table.drop("raw_id") if (encoder := _fit(column))]


def _fit(column: pl.Series) -> ColumnEncoder | None:
    """None for a column that tells nothing."""
    kind = kind_of(column)
    if kind == "words":
        return _words(column)
    if kind == "labels":
        return _labels(column, column.name, labels, MAX_LABELS)
    if kind == "year":
        return _labels(column, "year", _five_years, 1)
    if kind == "date":
        return _age(column)
    if kind == "number":
        if column.dtype.is_integer() and repeats(column):
            return _labels(column, column.name, labels, 1)
        return _number(column)
    return None


def _five_years(column: pl.Series) -> Sequence[Iterable[str]]:
    return labels(column // _YEARS_PER_BUCKET * _YEARS_PER_BUCKET)


def _distinct_words(column: pl.Series) -> Sequence[Iterable[str]]:
    return [list(dict.fromkeys(words(text or ""))) for text in column.to_list()]


def _words(column: pl.Series) -> ColumnEncoder | None:
    rows = _distinct_words(column)
    counts = Counter(word for row in rows for word in row)
    kept = [[word for word in row if counts[word] >= 2] for row in rows]
    if not any(kept):
        return None
    return _numbered(column.name, f"{column.name}_words", kept, _distinct_words, MAX_TOKENS)


def _labels(
    column: pl.Series, name: str, read: Callable[[pl.Series], Sequence[Iterable[str]]], max_width: int
) -> ColumnEncoder:
    return _numbered(column.name, name, read(column), read, max_width)


def _numbered(
    column: str,
    name: str,
    rows: Sequence[Iterable[str]],
    read: Callable[[pl.Series], Sequence[Iterable[str]]],
    max_width: int,
) -> ColumnEncoder:
    short = [list(row)[:max_width] for row in rows]
    numbers = {label: n for n, label in enumerate(sorted({label for row in short for label in row}), start=1)}
    width = max(map(len, short), default=0)
    feature = Feature(name=name, kind="ids", size=len(numbers) + 1, width=width)
    return _Labelled(column, feature, numbers, read)


def _age(column: pl.Series) -> ColumnEncoder:
    """How long before the latest date: what is new sells, and a week makes no difference after a year."""
    latest = float(np.nanmax(unix_seconds(column).to_numpy()))

    def doublings(dates: pl.Series) -> Sequence[Iterable[str]]:
        # What is dated later than all that was known is as new as the newest.
        days = np.maximum(latest - unix_seconds(dates).to_numpy(), 0.0) / 86_400
        return labels(pl.Series(np.log2(days + 1).round(), nan_to_null=True).cast(pl.Int64))

    return _labels(column, f"{column.name}_age", doublings, 1)


def _number(column: pl.Series) -> ColumnEncoder:
    """One value: deciles as ids found no more in a shop's prices (docs/LOG.md)."""
    values = _numbers(column, is_skewed=False)
    skew = values.skew()
    is_skewed = bool((values > 0).all()) and skew is not None and skew > _SKEWED
    values = _numbers(column, is_skewed)
    mean, spread = (value if isinstance(value, float) else 0.0 for value in (values.mean(), values.std()))
    feature = Feature(name=column.name, kind="dense", size=0, width=1)
    return _Scaled(column.name, feature, is_skewed, mean, spread or 1.0)


def _numbers(column: pl.Series, is_skewed: bool) -> pl.Series:
    """Float64, null where unknown; logarithms of a skewed column, which have none at 0 and below."""
    values = column.cast(pl.Float64).fill_nan(None)
    if not is_skewed:
        return values
    return pl.select(pl.when(values > 0).then(values.log())).to_series()
