"""Every ranking feature, defined once: offline for training, online for serving.

A feature is a small function of what is known strictly before the request (``Known``); its name is the
function's, its unit and group stand in the decorator, its meaning is the docstring. ``compute`` runs
them all for the candidates of one query and is the only way to a feature vector, so that a replayed
request gives the bits that were served. Missing is NaN, which gradient boosting has a branch for.

Sums behind a division are exact (see ``features.log``), so no thread count and no order of addition
changes a bit. Events at the request time or later never change a feature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from recray.arrays import Float32s, Float64s, Int64s
from recray.features.candidates import POPULAR, RETRIEVER
from recray.features.log import DAY_S, RECENT_EVENTS, EventLog, ItemState, UserState, history_state
from recray.schema import DataError

Value: TypeAlias = Any  # an array over the K candidates, or one number for all of them
Group = Literal["user", "item", "user x item", "context", "retrieval"]

YEAR_S = 31_556_952  # mean Gregorian year
SMOOTHING_EVENTS = 10.0  # an item's mean rating counts as if so many events had the overall mean
HALF_LIFE_EVENTS = 10.0  # recent taste: an event counts half as much so many events later
# Rounded so that every weighted count of genres is exact in float64, in any order of addition.
_RECENCY_H = np.rint(2.0 ** (-np.arange(RECENT_EVENTS)[::-1] / HALF_LIFE_EVENTS + 16)) * 2.0**-16


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
    """

    user_id: int
    time: int
    candidate_ids_K: Int64s
    retrieval_scores_K: Float32s
    sources_K: npt.NDArray[np.integer[Any]]
    history_ids: Int64s | None = None
    history_times: Int64s | None = None


class Taste(NamedTuple):
    """How the genres of K candidates meet those of the user's last RECENT_EVENTS events."""

    num_genres_K: Float64s  # of the candidate
    shared_K: Float64s  # pairs (event, genre) that have a genre of the candidate
    shared_recent_K: Float64s  # the same, recent events weighing more
    shared_ratings_K: Float64s  # the same, weighted by the user's rating
    shared_last_K: Float64s  # genres in common with the last event
    num_events: int
    recent_weight: float  # the weights of all events together
    num_genres_last: float


class Known(NamedTuple):
    """All that the features of one query may look at."""

    log: EventLog
    query: RankingQuery
    user: UserState
    item: ItemState
    taste: Taste


@dataclass(frozen=True)
class Feature:
    """One column of a feature vector."""

    name: str
    group: Group
    unit: str
    text: str
    define: Callable[[Known], Value]


FEATURES: list[Feature] = []


def _feature(group: Group, unit: str) -> Callable[[Callable[[Known], Value]], Callable[[Known], Value]]:
    def add(define: Callable[[Known], Value]) -> Callable[[Known], Value]:
        text = (define.__doc__ or "").strip()
        FEATURES.append(Feature(define.__name__, group, unit, text, define))
        return define

    return add


def _rank_within(values_K: npt.NDArray[Any]) -> Value:
    """1 + how many of the list have a higher value: ties share, order does not matter, NaN is lowest."""
    lower_K = np.fmin(-values_K, np.inf)  # fmin: infinity for NaN, which would sort slowly
    order_K = lower_K.argsort()
    sorted_K = lower_K[order_K]
    rank_K = np.empty(len(order_K), np.float32)
    rank_K[order_K] = sorted_K.searchsorted(sorted_K) + 1  # in order: half the time of a search at random
    return rank_K


# ---------------------------------------------------------------------------- user


@_feature("user", "events")
def user_events(known: Known) -> Value:
    """Events of the user so far."""
    return float(known.user.num_events)


@_feature("user", "events")
def user_events_7d(known: Known) -> Value:
    """Events of the user since midnight UTC 7 days ago."""
    return known.user.window_events_W[0]


@_feature("user", "events")
def user_events_30d(known: Known) -> Value:
    """Events of the user since midnight UTC 30 days ago."""
    return known.user.window_events_W[1]


@_feature("user", "rating")
def user_mean_rating(known: Known) -> Value:
    """Mean rating that the user gave so far."""
    return known.user.rating_sum / known.user.num_events if known.user.num_events else np.nan


@_feature("user", "days")
def user_days_since_last(known: Known) -> Value:
    """Time since the user's last event."""
    return (known.query.time - known.user.last_time) / DAY_S


@_feature("user", "days")
def user_days_since_first(known: Known) -> Value:
    """Time since the user's first event."""
    return (known.query.time - known.user.first_time) / DAY_S


# ---------------------------------------------------------------------------- item


@_feature("item", "events")
def item_events(known: Known) -> Value:
    """Events of the item so far."""
    return known.item.events_K


@_feature("item", "events")
def item_events_7d(known: Known) -> Value:
    """Events of the item since midnight UTC 7 days ago."""
    return known.item.window_events_WK[0]


@_feature("item", "events")
def item_events_30d(known: Known) -> Value:
    """Events of the item since midnight UTC 30 days ago."""
    return known.item.window_events_WK[1]


@_feature("item", "events")
def item_events_90d(known: Known) -> Value:
    """Events of the item since midnight UTC 90 days ago."""
    return known.item.window_events_WK[2]


@_feature("item", "ratio")
def item_trend(known: Known) -> Value:
    """Events a day in the last 30 days over events a day in the last 90: above 1 it is rising."""
    return 3.0 * known.item.window_events_WK[1] / known.item.window_events_WK[2]


@_feature("item", "rating")
def item_mean_rating(known: Known) -> Value:
    """Mean rating of the item so far, drawn to the mean of all events by 10 events' worth."""
    prior = known.log.mean_rating_before(known.query.time)
    return (known.item.rating_sum_K + SMOOTHING_EVENTS * prior) / (known.item.events_K + SMOOTHING_EVENTS)


@_feature("item", "days")
def item_days_since_first(known: Known) -> Value:
    """Time since the item was first seen."""
    return np.where(known.item.events_K, (known.query.time - known.item.first_time_K) / DAY_S, np.nan)


@_feature("item", "days")
def item_days_since_last(known: Known) -> Value:
    """Time since the item's last event."""
    return np.where(known.item.events_K, (known.query.time - known.item.last_time_K) / DAY_S, np.nan)


@_feature("item", "years")
def item_age(known: Known) -> Value:
    """Time since the beginning of the item's release year."""
    now = 1970.0 + known.query.time / YEAR_S
    return now - known.log.years_I.take(known.query.candidate_ids_K)


# ---------------------------------------------------------------------------- user x item


@_feature("user x item", "share")
def genre_affinity(known: Known) -> Value:
    """Share of the user's last 512 events that have a genre of the item, mean over its genres."""
    taste = known.taste
    return taste.shared_K / (taste.num_genres_K * taste.num_events)


@_feature("user x item", "share")
def genre_affinity_recent(known: Known) -> Value:
    """The same share, an event weighing half as much with every 10 later events."""
    taste = known.taste
    return taste.shared_recent_K / (taste.num_genres_K * taste.recent_weight)


@_feature("user x item", "rating")
def genre_mean_rating(known: Known) -> Value:
    """Mean rating that the user gave to the item's genres, over the last 512 events."""
    return known.taste.shared_ratings_K / known.taste.shared_K


@_feature("user x item", "share")
def genre_overlap_last(known: Known) -> Value:
    """Genres that the item and the user's last event share, over the genres of either."""
    taste = known.taste
    return taste.shared_last_K / (taste.num_genres_K + taste.num_genres_last - taste.shared_last_K)


@_feature("user x item", "share")
def follows_last(known: Known) -> Value:
    """How often the item came within 8 events after the last 256 occurrences of the user's last item."""
    if not len(known.user.item_ids_H):
        return np.nan
    counts_I, occurrences = known.log.followers_before(int(known.user.item_ids_H[-1]), known.query.time)
    return counts_I.take(known.query.candidate_ids_K) / occurrences if occurrences else np.nan


# ---------------------------------------------------------------------------- context


@_feature("context", "hours")
def hour_of_day(known: Known) -> Value:
    """Hour of the request, UTC, 0 to 23."""
    return float(known.query.time % DAY_S // 3600)


@_feature("context", "days")
def day_of_week(known: Known) -> Value:
    """Day of the request, UTC, Monday 0 to Sunday 6."""
    return float((known.query.time // DAY_S + 3) % 7)


# ---------------------------------------------------------------------------- retrieval


@_feature("retrieval", "score")
def retrieval_score(known: Known) -> Value:
    """The retriever's score."""
    return known.query.retrieval_scores_K


@_feature("retrieval", "rank")
def retrieval_rank(known: Known) -> Value:
    """1 + how many candidates have a higher score."""
    return _rank_within(known.query.retrieval_scores_K)


@_feature("retrieval", "score")
def retrieval_gap(known: Known) -> Value:
    """The best candidate's score minus the score."""
    scores_K = known.query.retrieval_scores_K
    return np.fmax.reduce(scores_K, initial=-np.inf) - scores_K


# Places within the list stay comparable while counts and scores drift with the months, and trees
# cannot compare the rows of a list themselves.


@_feature("item", "rank")
def item_events_rank(known: Known) -> Value:
    """1 + how many candidates have more events so far."""
    return _rank_within(known.item.events_K)


@_feature("item", "rank")
def item_events_30d_rank(known: Known) -> Value:
    """1 + how many candidates have more events since midnight UTC 30 days ago."""
    return _rank_within(known.item.window_events_WK[1])


@_feature("item", "rank")
def item_mean_rating_rank(known: Known) -> Value:
    """1 + how many candidates have a higher (smoothed) mean rating."""
    return _rank_within(item_mean_rating(known))


@_feature("user x item", "rank")
def genre_affinity_rank(known: Known) -> Value:
    """1 + how many candidates have a higher genre_affinity."""
    return _rank_within(genre_affinity(known))


@_feature("user x item", "rank")
def genre_affinity_recent_rank(known: Known) -> Value:
    """1 + how many candidates have a higher genre_affinity_recent."""
    return _rank_within(genre_affinity_recent(known))


@_feature("retrieval", "flag")
def from_retriever(known: Known) -> Value:
    """1 where the retriever named the item."""
    return known.query.sources_K & RETRIEVER != 0


@_feature("retrieval", "flag")
def from_popular(known: Known) -> Value:
    """1 where the item is among the popular ones proposed to everybody."""
    return known.query.sources_K & POPULAR != 0


FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


def compute(log: EventLog, query: RankingQuery) -> Float32s:
    """features_KF, float32, NaN where missing; columns are FEATURE_NAMES, rows the candidates.

    Raises:
        DataError: a candidate or a history item is not in the catalogue, or lengths differ.
    """
    _check(log, query)
    features_FK = np.empty((len(FEATURES), len(query.candidate_ids_K)), np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is a share of nothing: missing
        known = _look_up(log, query)
        for row, feature in enumerate(FEATURES):
            features_FK[row] = feature.define(known)
    features_FK += 0.0  # one zero: -0.0 would come and go with the order of additions
    return np.ascontiguousarray(features_FK.T)


def describe() -> str:
    """The table of all features, in Markdown."""
    rows = [f"| `{f.name}` | {f.group} | {f.unit} | {f.text} |" for f in FEATURES]
    return "\n".join(["| feature | group | unit | meaning |", "| --- | --- | --- | --- |", *rows])


def _look_up(log: EventLog, query: RankingQuery) -> Known:
    if query.history_ids is not None:
        user = history_state(query.history_ids, query.history_times, query.time)
    else:
        user = log.user_before(query.user_id, query.time)
    item = log.items_before(query.candidate_ids_K, query.time)
    return Known(log, query, user, item, _taste(log, user, query.candidate_ids_K))


def _taste(log: EventLog, user: UserState, candidate_ids_K: Int64s) -> Taste:
    count = len(user.item_ids_H)
    weights_4H = np.zeros((4, count))
    weights_4H[0] = 1.0
    weights_4H[1] = recency_H = _RECENCY_H[RECENT_EVENTS - count :]
    weights_4H[2] = user.ratings_H
    weights_4H[3, -1:] = 1.0
    totals_4G = weights_4H @ log.genres_IG.take(user.item_ids_H, axis=0)
    shared_4K = totals_4G @ log.genres_IG.take(candidate_ids_K, axis=0).T
    num_genres_K = log.genre_counts_I.take(candidate_ids_K)
    shared_K, recent_K, ratings_K, last_K = shared_4K
    totals = (count, float(recency_H.sum()), float(totals_4G[3].sum()))
    return Taste(num_genres_K, shared_K, recent_K, ratings_K, last_K, *totals)


def _check(log: EventLog, query: RankingQuery) -> None:
    count = len(query.candidate_ids_K)
    if len(query.retrieval_scores_K) != count or len(query.sources_K) != count:
        lengths = (count, len(query.retrieval_scores_K), len(query.sources_K))
        raise DataError(f"candidates, retrieval scores and sources have {lengths} entries; give one each")
    if query.history_times is not None and query.history_ids is not None:
        items, times = len(query.history_ids), len(query.history_times)
        if items != times:
            raise DataError(f"{items} history items and {times} times; give a time for each")
    for what, ids in (("candidate", query.candidate_ids_K), ("history item", query.history_ids)):
        if ids is not None and len(ids) and (ids.min() < 0 or ids.max() >= log.num_items):
            wrong = int(ids[(ids < 0) | (ids >= log.num_items)][0])
            raise DataError(f"{what} {wrong} is not in the log's catalogue (0..{log.num_items - 1})")
