"""Side columns of users and items as the id and dense features that models take."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recray.batch import FeatureTables
from recray.data.events.dataset import Dataset
from recray.schema import Feature, FeatureSchema

MAX_TOKENS = 16  # of a title or text; more add little and cost memory on every item
MAX_LABELS = 16  # of a list column such as genres
_YEARS_PER_BUCKET = 5
_WORD = re.compile(r"[^\W_]{2,}")
_TRAILING_YEAR = re.compile(r"\s*\(\d{4}\)\s*$")


class Encoded(NamedTuple):
    feature: Feature
    values: Tensor  # int64 ids or float32 values, [rows, width]


def encode_side_features(dataset: Dataset) -> tuple[FeatureSchema, FeatureTables]:
    """Every side column by its type, the same way for every data set.

    ``title`` and ``text``: words that occur in at least two rows, the first 16 of them. Lists and
    other strings: one id per label. ``year``: five-year buckets. Further integers: one id per
    value; floats: standardised dense values, 0 where unknown. Id 0 always means absent.
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
    """None for a column that tells nothing: all empty, or a type without an encoding."""
    if column.null_count() == len(column):
        return None
    if column.name in ("title", "text"):
        return _words(column)
    if isinstance(column.dtype, pl.List) and column.dtype.inner == pl.String:
        return _labels(column.name, [row or () for row in column.to_list()], MAX_LABELS)
    if column.name == "year":
        return _one_label((column // _YEARS_PER_BUCKET * _YEARS_PER_BUCKET).alias("year"))
    if column.dtype == pl.String or column.dtype.is_integer() or column.dtype == pl.Boolean:
        # A label of (almost) every row's own says no more than the id itself.
        return _one_label(column) if column.drop_nulls().n_unique() <= len(column) / 2 else None
    return _dense(column) if column.dtype.is_float() else None


def _one_label(column: pl.Series) -> Encoded:
    rows = [() if value is None else (str(value),) for value in column.to_list()]
    return _labels(column.name, rows, 1)


def _words(column: pl.Series) -> Encoded | None:
    texts = [_TRAILING_YEAR.sub("", text or "").lower() for text in column.to_list()]
    rows = [list(dict.fromkeys(_WORD.findall(text))) for text in texts]
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


def _dense(column: pl.Series) -> Encoded:
    values = column.cast(pl.Float64).fill_nan(None)
    spread = values.std() or 1.0
    scaled = ((values - values.mean()) / spread).fill_null(0.0).cast(pl.Float32)
    return Encoded(
        Feature(name=column.name, kind="dense", size=0, width=1),
        torch.from_numpy(scaled.to_numpy().copy()).unsqueeze(1),
    )
