"""What ranking features may look at: all of it strictly before a moment, each look-up done when first asked.

``Known`` is what a query and the events of a log have in common: users and items, each strictly before
its moment. Features defined on it are made of both by the same function. A query has its candidates, and
the user's latest events, besides.

Shapes: K candidates of a query or events of a log, H latest events of the user.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from recray.arrays import Float32s, Float64s, Int32s, Int64s
from recray.features.log import EventLog
from recray.features.look_ups import LookUps
from recray.features.past import RECENT_EVENTS, Past, UserPast, brought_history, mean, running
from recray.features.request import Context

HALF_LIFE_EVENTS = 10.0  # recent taste: an event counts half as much so many events later
# Rounded so that every weighted count of labels is exact in float64, in any order of addition.
_RECENCY_H = np.rint(2.0 ** (-np.arange(RECENT_EVENTS)[::-1] / HALF_LIFE_EVENTS + 16)) * 2.0**-16
_RECENT_WEIGHTS = running(_RECENCY_H[::-1]).tolist()  # of so many events together


class Known(Protocol):
    """K items and their users (one for all, or one each), strictly before a moment (likewise)."""

    @property
    def log(self) -> LookUps: ...
    @property
    def time(self) -> int | Int64s:
        """Of the request, unix seconds."""

    @property
    def known_until(self) -> int | Int64s:
        """Unix seconds, not after ``time``: what waits are counted from, but for users heard of later."""

    @property
    def item_ids_K(self) -> Int32s | Int64s: ...
    @property
    def user(self) -> Past: ...
    @property
    def item(self) -> Past: ...
    @property
    def mean_rating(self) -> Float64s | float:
        """Of all events."""


@dataclass(frozen=True)
class RankingQuery:
    """A request and its K candidates, in any order; the answer keeps it.

    Attributes:
        user_id: -1 where the user is unknown.
        time: unix seconds of the request; only what is older counts.
        candidate_ids_K: int64.
        retrieval_scores_K: float32, higher is better; NaN where no retriever scored it.
        sources_K: bit mask over ``candidates.SOURCES``.
        history_ids: the user's items, oldest first, instead of what the log knows of the user.
        history_times: unix seconds of ``history_ids``; items not older than ``time`` are left out.
        known_until: unix seconds at which the log ended, where the request may be later: see
            ``past.heard_until``; None: it reaches to the request.
        context: what the request says of itself.
    """

    user_id: int
    time: int
    candidate_ids_K: Int64s
    retrieval_scores_K: Float32s
    sources_K: npt.NDArray[np.integer[Any]]
    history_ids: Int64s | None = None
    history_times: Int64s | None = None
    known_until: int | None = None
    context: Context = field(default_factory=dict)


class Taste(NamedTuple):
    """How one column of labels of K candidates meets that of the user's last RECENT_EVENTS events."""

    num_labels_K: Float64s  # of the candidate
    shared_K: Float64s  # pairs (event, label) that have a label of the candidate
    shared_recent_K: Float64s  # the same, recent events weighing more
    shared_ratings_K: Float64s  # the same, weighted by the user's rating
    shared_last_K: Float64s  # labels in common with the last event
    num_events: int
    recent_weight: float  # the weights of all events together
    num_labels_last: float


class KnownOfQuery:
    """``Known`` of the candidates of one query, and what only a query has."""

    def __init__(self, log: LookUps, query: RankingQuery) -> None:
        self.log, self.query = log, query
        self.time, self.item_ids_K = query.time, query.candidate_ids_K
        self.known_until = query.time if query.known_until is None else min(query.time, query.known_until)
        self.tastes: dict[str, Taste] = {}

    @cached_property
    def history(self) -> UserPast:
        query = self.query
        if query.history_ids is not None:
            brought = query.history_ids, query.history_times, query.time
            return brought_history(*brought, self.known_until)
        return self.log.user_before(query.user_id, query.time, self.known_until)

    @property
    def user(self) -> Past:
        return self.history.past

    @cached_property
    def item(self) -> Past:
        return self.log.items_before(self.item_ids_K, self.time, self.known_until)

    @cached_property
    def mean_rating(self) -> float:
        return self.log.mean_rating_before(self.time)

    def taste(self, column: str) -> Taste:
        """By a column of labels, looked up when first asked for."""
        if column not in self.tastes:
            self.tastes[column] = self._taste(column)
        return self.tastes[column]

    def _taste(self, column: str) -> Taste:
        item_ids_H, overlap = self.history.item_ids_H, self.log.overlap(column)
        count = len(item_ids_H)
        weights_4H = np.zeros((4, count))
        weights_4H[0] = 1.0
        weights_4H[1] = _RECENCY_H[RECENT_EVENTS - count :]
        weights_4H[2] = self.history.ratings_H
        weights_4H[3, -1:] = 1.0
        if overlap is None:
            no_K = np.zeros(len(self.item_ids_K))
            return Taste(no_K, no_K, no_K, no_K, no_K, count, _RECENT_WEIGHTS[count], 0.0)
        shared_K, recent_K, ratings_K, last_K = overlap.shared(weights_4H, item_ids_H, self.item_ids_K)
        num_labels_K = overlap.counts_I.take(self.item_ids_K)
        num_labels_last = float(overlap.counts_I[item_ids_H[-1]]) if count else 0.0
        totals = (count, _RECENT_WEIGHTS[count], num_labels_last)
        return Taste(num_labels_K, shared_K, recent_K, ratings_K, last_K, *totals)


class KnownOfEvents:
    """``Known`` of the user and item of every event of a log, strictly before the event; K events.

    Args:
        ratings_K: what means are taken of, instead of the log's ratings: 0 and 1 make them rates.
    """

    def __init__(self, log: EventLog, ratings_K: npt.NDArray[Any] | None = None) -> None:
        self.log, self._ratings_K = log, ratings_K
        self.time = self.known_until = log.timestamps_N
        self.item_ids_K = log.item_ids_N

    @cached_property
    def user(self) -> Past:
        return self.log.by_user.past_of_each(self.log.user_ids_N, self.time, self._ratings_K)

    @cached_property
    def item(self) -> Past:
        return self.log.by_item.past_of_each(self.item_ids_K, self.time, self._ratings_K)

    @cached_property
    def mean_rating(self) -> Float64s | float:
        sums_N = self.log.rating_sums_N if self._ratings_K is None else running(self._ratings_K)
        events_K = self.time.searchsorted(self.time)
        return mean(sums_N.take(events_K), events_K)
