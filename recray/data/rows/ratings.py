"""A data set of rated interactions as rows to rank: a click is a rating of at least a threshold.

Every dense feature of a row is known strictly before its event (events of the same second excluded),
and every id that the training part does not have is 0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from recray.arrays import Bools, Float32s, Int32s, Int64s
from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.log import event_log
from recray.data.events.side_features import encode_side_features
from recray.data.events.splits import global_time
from recray.data.row_block import MultiHot, RowBlock, SparseIds
from recray.data.row_source import Part, RawRows
from recray.features.items import YEAR, item_features
from recray.features.log import EventLog
from recray.features.past import smoothed_mean
from recray.features.ranking import EVENT_FEATURES, KnownOfEvents, compute_of_events, event_features_of
from recray.schema import DataError, RowSchema, SparseFeature

BEFORE = (
    "user_events",
    "user_mean_rating",
    "user_days_since_last",
    "user_days_since_first",
    "item_events",
    "item_mean_rating",
    "item_days_since_last",
    "item_days_since_first",
    "item_age",
)
"""The ranking features that rows have, as ``features.ranking`` defines them; click rates come beside."""
SAID_ELSEWHERE = ("year",)  # by item_age; and words are for towers


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
        return f"{self.dataset.name}-{'ratings' if self.sessions == 'none' else 'lists'}"

    @property
    def reader(self) -> str:
        return "clicks"

    def options(self) -> dict[str, Any]:
        shared = {
            "dataset": self.dataset.name,
            "dataset_hash": self.dataset.hash,
            "sessions": self.sessions,
            "features": list(self._features()),
        }
        if self.sessions == "user":
            return shared
        return {**shared, "threshold": self.threshold, "history": self.history}

    def rows(self, scratch: Path) -> RawRows:
        data = self.dataset
        split = global_time(data)
        labels_N = self._labels()
        clicks_N = data.ratings_N >= self.threshold
        log = event_log(data)
        sparse = _sparse(data, split.train_N)
        if self.sessions == "none" and self.history:
            sparse += _history(data, log, clicks_N, split.train_N, self.history)
        dense = self._dense(log, clicks_N)
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

    def _features(self) -> tuple[str, ...]:
        """Of ``BEFORE`` and the items' columns, what tells the rows of a list apart and the data set has."""
        columns = item_features(self.dataset.items).columns()
        names = [name for name in BEFORE if name != "item_age" or YEAR in columns.numbers]
        if self.sessions != "none":
            names = [name for name in names if name.startswith("item_")]
        return *names, *(name for name in event_features_of(columns) if name not in EVENT_FEATURES)

    def _dense(self, log: EventLog, clicks_N: Bools) -> dict[str, Float32s]:
        """What was known strictly before each event."""
        names = self._features()
        dense = dict(zip(names, compute_of_events(KnownOfEvents(log), names).T, strict=True))
        clicked = KnownOfEvents(log, clicks_N)
        pasts = {"item_click_rate": clicked.item}
        if self.sessions == "none":
            pasts["user_click_rate"] = clicked.user
        for name, past in pasts.items():
            dense[name] = np.asarray(smoothed_mean(past, clicked.mean_rating), np.float32)
        return dense

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


def _history(data: Dataset, log: EventLog, clicks_N: Bools, train_N: Bools, most: int) -> list[_Column]:
    """The user's latest items before each event; they tell about users whom training has not seen."""
    item = _ids("item_id", data.item_ids_N + 1, data.num_items + 1, train_N)
    assert not isinstance(item.ids, MultiHot)
    return [
        _Column(
            SparseFeature(name=name, size=item.feature.size, multi_hot=True),
            _latest(log, item.ids, marked_N, most),
        )
        for name, marked_N in (("clicked_items", clicks_N), ("other_items", ~clicks_N))
    ]


def _latest(log: EventLog, ids_N: Int32s, marked_N: Bools, most: int) -> MultiHot:
    """Of the user's events before each event that are marked the latest ``most``: their ids, oldest first."""
    order = log.by_user
    marked = marked_N[order.order_N]
    count = np.concatenate([[0], np.cumsum(marked)])
    stop_N = count[order.before_each_N]
    start_N = np.maximum(count[order.starts[log.user_ids_N]], stop_N - most)
    offsets_N = np.concatenate([[0], np.cumsum(stop_N - start_N)])
    places = np.arange(offsets_N[-1]) + np.repeat(start_N - offsets_N[:-1], stop_N - start_N)
    return MultiHot(ids_N[order.order_N][marked].astype(np.int32)[places], offsets_N)


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
            if feature.kind != "ids" or feature.name in SAID_ELSEWHERE or feature.name.endswith("_words"):
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
