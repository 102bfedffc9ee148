"""A data set of rated interactions as rows to rank: a click is a rating of at least a threshold.

Every dense feature of a row is known strictly before its event (events of the same second excluded),
and every id that the training part does not have is 0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recray.arrays import Bools, Float32s, Float64s, Int64s
from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.side_features import encode_side_features
from recray.data.events.splits import global_time
from recray.data.row_block import MultiHot, RowBlock, SparseIds
from recray.data.row_source import Part, RawRows
from recray.schema import DataError, RowSchema, SparseFeature

DAY_S = 86_400
SMOOTHING = 5  # events at the overall mean that every user and item is taken to have had before
SIDE = ("gender", "age", "occupation", "genres")


class _Column(NamedTuple):
    feature: SparseFeature
    ids: SparseIds


@dataclass(frozen=True, kw_only=True)
class RatingsAsRows:
    """Rows of ``dataset`` under a global-time split 80/10/10.

    ``sessions="user"``: a list per user and part, in order of time, graded by the rating above the
    lowest, lists of one left out. What is known about the user is the same for a whole list and would
    come from its own labels, so it is left out there.
    """

    dataset: Dataset
    threshold: float = 4.0
    """Lowest rating that counts as a click."""
    sessions: Literal["none", "user"] = "none"
    history: int = 20
    """So many of the user's latest items with a click before the event, and of those without, are
    multi-hot columns; 0 leaves them out. Not with sessions."""

    def __post_init__(self) -> None:
        if self.sessions not in ("none", "user"):
            raise ConfigError(f"sessions must be 'none' or 'user', got {self.sessions!r}")
        if self.history < 0:
            raise ConfigError(f"history must not be negative, got {self.history}")

    @property
    def name(self) -> str:
        return f"{self.dataset.name}-{'clicks' if self.sessions == 'none' else 'lists'}"

    @property
    def reader(self) -> str:
        return "clicks"

    def options(self) -> dict[str, Any]:
        shared = {"dataset": self.dataset.name, "dataset_hash": self.dataset.hash, "sessions": self.sessions}
        if self.sessions == "user":
            return shared
        return {**shared, "threshold": self.threshold, "history": self.history}

    def rows(self, scratch: Path) -> RawRows:
        data = self.dataset
        split = global_time(data)
        labels_N = self._labels()
        dense = _known_before(data, data.ratings_N >= self.threshold)
        sparse = _sparse(data, split.train_N)
        if self.sessions == "user":
            dense = {name: values for name, values in dense.items() if not name.startswith("user_")}
        elif self.history:
            sparse += _history(data, data.ratings_N >= self.threshold, split.train_N, self.history)
        schema = RowSchema(
            dense=tuple(dense), sparse=tuple(c.feature for c in sparse), sessions=self.sessions == "user"
        )
        ids = {c.feature.name: c.ids for c in sparse}
        whole = RowBlock(
            RowSchema(dense=schema.dense, sparse=schema.sparse),
            np.stack([*dense.values()], axis=1),
            ids,
            labels_N,
        )
        masks: dict[Part, Bools] = {
            "train": split.train_N, "validation": split.validation_N, "test": split.test_N
        }  # fmt: skip
        return RawRows(
            schema=schema,
            parts={part: [self._part(schema, whole, mask_N)] for part, mask_N in masks.items()},
            split=split.name,
        )

    def _labels(self) -> Float32s:
        ratings_N = self.dataset.ratings_N
        clicks_N: Float32s = (ratings_N >= self.threshold).astype(np.float32)
        if not 0 < clicks_N.mean() < 1:
            raise DataError(
                f"{self.dataset.name}: of {len(clicks_N):,} ratings {int(clicks_N.sum()):,} are at least "
                f"{self.threshold:g}, so there is nothing to tell apart: choose another threshold"
            )
        return ratings_N - ratings_N.min() if self.sessions == "user" else clicks_N

    def _part(self, schema: RowSchema, whole: RowBlock, mask_N: Bools) -> RowBlock:
        rows = np.flatnonzero(mask_N)
        if not schema.sessions:
            return whole.select(rows)
        users_N = self.dataset.user_ids_N[rows]
        rows = rows[np.argsort(users_N, kind="stable")]
        sizes_U = np.bincount(users_N, minlength=self.dataset.num_users)
        rows = rows[sizes_U[self.dataset.user_ids_N[rows]] > 1]
        offsets_S = np.concatenate([[0], np.cumsum(sizes_U[sizes_U > 1])])
        block = whole.select(rows)
        return RowBlock(schema, block.dense_NF, block.ids, block.labels_N, offsets_S)


def _known_before(data: Dataset, clicks_N: Bools) -> dict[str, Float32s]:
    """Histories of the user and the item of each event, of what happened strictly before it."""
    times_N = data.timestamps_N
    everyone = Past(np.zeros(len(data), np.int64), times_N)
    # Before the very first event nothing is known: half the scale stands for the mean.
    mean_N = everyone.mean(data.ratings_N, float(data.ratings_N.max()) / 2, 1)
    rate_N = everyone.mean(clicks_N, 0.5, 1)
    columns: dict[str, npt.NDArray[Any]] = {}
    for who, ids_N in (("user", data.user_ids_N), ("item", data.item_ids_N)):
        past = Past(ids_N, times_N)
        columns[f"{who}_events"] = past.count_N
        columns[f"{who}_mean_rating"] = past.mean(data.ratings_N, mean_N, SMOOTHING)
        columns[f"{who}_click_rate"] = past.mean(clicks_N, rate_N, SMOOTHING)
        columns[f"{who}_days_since_last"] = past.since_last_N / DAY_S
        columns[f"{who}_days_since_first"] = past.since_first_N / DAY_S
    if "year" in data.items.columns:
        released_I = data.items["year"].cast(float).fill_null(float("nan")).to_numpy()
        years_N = times_N.astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64) + 1970
        columns["item_age_years"] = years_N - released_I[data.item_ids_N]
    return {name: values.astype(np.float32) for name, values in columns.items()}


class Past:
    """For each event, the earlier events with its key; ``times_N`` must not fall.

    ``count_N``: how many; ``since_last_N`` and ``since_first_N``: seconds, NaN where there are none.
    """

    def __init__(self, keys_N: Int64s, times_N: Int64s) -> None:
        self._order_N = np.argsort(keys_N, kind="stable")
        keys, times = keys_N[self._order_N], times_N[self._order_N]
        places = np.arange(len(keys))
        new_key = np.r_[True, keys[1:] != keys[:-1]]
        # Events of one second know nothing of each other: they all begin at the first of them.
        new_time = new_key | np.r_[True, times[1:] != times[:-1]]
        self._first = np.maximum.accumulate(np.where(new_key, places, 0))
        self._before = np.maximum.accumulate(np.where(new_time, places, 0))
        count = self._before - self._first
        known = count > 0
        self.count_N = self._in_place(count)
        self.since_last_N = self._in_place(np.where(known, times - times[self._before - known], np.nan))
        self.since_first_N = self._in_place(np.where(known, times - times[self._first], np.nan))

    def mean(self, values_N: npt.NDArray[Any], prior_N: npt.NDArray[Any] | float, weight: float) -> Float64s:
        """Mean of the earlier values, with ``weight`` further ones of ``prior_N``."""
        sums = np.concatenate([[0.0], np.cumsum(values_N[self._order_N], dtype=np.float64)])
        total_N = self._in_place(sums[self._before] - sums[self._first])
        return (total_N + weight * prior_N) / (self.count_N + weight)

    def latest(self, ids_N: Int64s, marked_N: Bools, most: int) -> MultiHot:
        """Of the earlier events that are marked the latest ``most``: their ids, oldest first."""
        marked = marked_N[self._order_N]
        count = np.concatenate([[0], np.cumsum(marked)])
        stop_N = self._in_place(count[self._before])
        start_N = np.maximum(self._in_place(count[self._first]), stop_N - most)
        offsets_N = np.concatenate([[0], np.cumsum(stop_N - start_N)])
        places = np.arange(offsets_N[-1]) + np.repeat(start_N - offsets_N[:-1], stop_N - start_N)
        return MultiHot(ids_N[self._order_N][marked].astype(np.int32)[places], offsets_N)

    def _in_place(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        made_N = np.empty_like(values)
        made_N[self._order_N] = values
        return made_N


def _history(data: Dataset, clicks_N: Bools, train_N: Bools, most: int) -> list[_Column]:
    """The user's latest items before each event; they tell about users whom training has not seen."""
    past = Past(data.user_ids_N, data.timestamps_N)
    item = _ids("item_id", data.item_ids_N + 1, data.num_items + 1, train_N)
    assert not isinstance(item.ids, MultiHot)
    return [
        _Column(
            SparseFeature(name=name, size=item.feature.size, multi_hot=True),
            past.latest(item.ids.astype(np.int64), marked_N, most),
        )
        for name, marked_N in (("clicked_items", clicks_N), ("other_items", ~clicks_N))
    ]


def _sparse(data: Dataset, train_N: Bools) -> list[_Column]:
    columns = [
        _ids("user_id", data.user_ids_N + 1, data.num_users + 1, train_N),
        _ids("item_id", data.item_ids_N + 1, data.num_items + 1, train_N),
    ]
    schema, tables = encode_side_features(data)
    for features, values, row_N in (
        (schema.user, tables.user, data.user_ids_N),
        (schema.item, tables.item, data.item_ids_N),
    ):
        for feature in features:
            if feature.name not in SIDE:
                continue
            ids_NW = values[feature.name].numpy()[row_N]
            if feature.width == 1:
                columns.append(_ids(feature.name, ids_NW[:, 0], feature.size, train_N))
            else:
                columns.append(_multi_hot(feature.name, ids_NW, feature.size, train_N))
    return columns


def _ids(name: str, ids_N: Int64s, size: int, train_N: Bools) -> _Column:
    """The ids that the training part has; 0 for the others."""
    ids_N = np.where(_seen(ids_N[train_N], size)[ids_N], ids_N, 0)
    return _Column(SparseFeature(name=name, size=size), ids_N.astype(np.int32))


def _multi_hot(name: str, ids_NW: Int64s, size: int, train_N: Bools) -> _Column:
    """The same of the ids above 0 of each row."""
    known_NW = (ids_NW > 0) & _seen(ids_NW[train_N], size)[ids_NW]
    offsets_N = np.concatenate([[0], np.cumsum(known_NW.sum(axis=1))])
    ids = MultiHot(ids_NW[known_NW].astype(np.int32), offsets_N)
    return _Column(SparseFeature(name=name, size=size, multi_hot=True), ids)


def _seen(ids: Int64s, size: int) -> Bools:
    seen = np.zeros(size, dtype=bool)
    seen[ids] = True
    return seen
