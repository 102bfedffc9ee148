"""Side columns of users and items as the id and dense features that models take."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


class Encoded(NamedTuple):
    feature: Feature
    values: Tensor  # int64 ids or float32 values, [rows, width]


def encode_side_features(dataset: Dataset) -> tuple[FeatureSchema, FeatureTables]:
    """Every side column by its kind (``features.columns``), the same way for every data set.

    Words: those that occur in at least two rows, the first 16 of each. Labels: an id for each. ``year``:
    five-year buckets. Integers that come back: one id per value. Other numbers: standardised dense values,
    0 where unknown; positive ones with a long tail, such as prices, by their logarithm. Dates: by their age
    before the latest one, an id for each doubling. Id 0 always means absent.
    """
    users = [e for column in dataset.users.drop("raw_id") if (e := _encode(column))]
    items = [e for column in dataset.items.drop("raw_id") if (e := _encode(column))]
    schema = FeatureSchema(
        num_users=dataset.num_users,
        num_items=dataset.num_items,
        user=tuple(e.feature for e in users),
        item=tuple(e.feature for e in items),
    )
    return schema, FeatureTables(
        user={e.feature.name: e.values for e in users}, item={e.feature.name: e.values for e in items}
    )


def _encode(column: pl.Series) -> Encoded | None:
    """None for a column that tells nothing."""
    kind = kind_of(column)
    if kind == "words":
        return _words(column)
    if kind == "labels":
        return _labels(column.name, labels(column), MAX_LABELS)
    if kind == "year":
        return _one_label((column // _YEARS_PER_BUCKET * _YEARS_PER_BUCKET).alias("year"))
    if kind == "date":
        return _age(column)
    if kind == "number":
        return _one_label(column) if column.dtype.is_integer() and repeats(column) else _number(column)
    return None


def _one_label(column: pl.Series) -> Encoded:
    return _labels(column.name, labels(column), 1)


def _words(column: pl.Series) -> Encoded | None:
    rows = [list(dict.fromkeys(words(text or ""))) for text in column.to_list()]
    counts = Counter(word for row in rows for word in row)
    kept = [[word for word in row if counts[word] >= 2] for row in rows]
    return _labels(f"{column.name}_words", kept, MAX_TOKENS) if any(kept) else None


def _labels(name: str, rows: Sequence[Iterable[str]], max_width: int) -> Encoded:
    short = [list(row)[:max_width] for row in rows]
    number = {label: n for n, label in enumerate(sorted({label for row in short for label in row}), start=1)}
    width = max(map(len, short), default=0)
    ids = np.zeros((len(short), width), dtype=np.int64)
    for r, row in enumerate(short):
        ids[r, : len(row)] = [number[label] for label in row]
    feature = Feature(name=name, kind="ids", size=len(number) + 1, width=width)
    return Encoded(feature, torch.from_numpy(ids))


def _age(column: pl.Series) -> Encoded:
    """How long before the latest date: what is new sells, and a week makes no difference after a year."""
    seconds = unix_seconds(column).to_numpy()
    days = (np.nanmax(seconds) - seconds) / 86_400
    doublings = pl.Series(f"{column.name}_age", np.log2(days + 1).round(), nan_to_null=True)
    return _one_label(doublings.cast(pl.Int64))


def _number(column: pl.Series) -> Encoded:
    """One value: deciles as ids found no more in a shop's prices (docs/LOG.md)."""
    values = column.cast(pl.Float64).fill_nan(None)
    skew = values.skew()
    if (values > 0).all() and skew is not None and skew > _SKEWED:
        values = values.log()
    spread = values.std() or 1.0
    scaled = ((values - values.mean()) / spread).fill_null(0.0).cast(pl.Float32)
    return Encoded(
        Feature(name=column.name, kind="dense", size=0, width=1),
        torch.from_numpy(scaled.to_numpy().copy()).unsqueeze(1),
    )
