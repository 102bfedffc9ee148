"""Features of logged items computed again: as the version served them, and offline, of all that is known now.

Both are of one moment. What the version gives again, told what came by then, must be what the log has, bit
by bit. Offline is what a training would see: all that happened strictly before the request, of those who can
be trusted, whenever it came. Where the two differ, one condition of serving after the other is put back until
they do not: the last one is the cause.

Shapes: N shown items, K candidates of a request, F features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from recray.arrays import Bools, Float32s, Float64s, Int64s
from recray.event_log.records import WANTED, Fact
from recray.features.items import Items
from recray.features.log import EventLog
from recray.features.look_ups import LookUps
from recray.features.ranking import RankingQuery, compute
from recray.pipelines.replay import Asked, Replay
from recray.pipelines.scored_again import features_of_rows, same
from recray.serve.query import UNKNOWN_USER
from recray.serve.stages.listed import StagesConfig
from recray.serve.state import RequestState
from recray.serve.versions import OpenedVersion, ServedBundles

CLOCK = "the clock: waits and windows end with the newest that serving had heard of, offline with the request"
ITEMS = "what was told of items: serving knows it, a data set does not"
LEFT_OUT = "events that a data set leaves out: of nobody, forged or repeated claims, of programs"
LATE = "events that came after the answer"
STRANGER = "users whom the version does not know: of what they do, ratings are not kept"
GAP = "days of which nothing was heard: serving leaves them out"
LIVE = "events from before the version's data ended: serving does not count them"


class Again(NamedTuple):
    """Shown items that a version ranked, and their features, in the same order."""

    items: pl.DataFrame  # the shown items
    names: tuple[str, ...]  # of the F columns
    logged_NF: Float32s
    served_NF: Float32s
    offline_NF: Float32s
    cause_NF: npt.NDArray[np.object_]  # of what differs between logged and offline; "": nothing, or unknown
    is_found_N: Bools  # the version asked again has the item among its candidates; else nothing is computed


@dataclass(frozen=True)
class Told:
    """What an application was told."""

    events: pl.DataFrame  # all of the log
    trusted: pl.DataFrame  # of them, those that data is made of
    facts: Sequence[Fact] = ()


def features_again(bundles: ServedBundles, stages: StagesConfig, shown: pl.DataFrame, told: Told) -> Again:
    """
    Args:
        shown: items of lists of one version, with their features and ``asked_at``, the moment in unix seconds
            until when what came was known.
    """
    shown = shown.sort("asked_at", "request_id", "rank", maintain_order=True)
    replay = Replay(bundles, stages, told.events, told.facts)
    names = _names(bundles)
    offline = Offline(OpenedVersion(bundles), told)
    size = (len(shown), len(names))
    served_NF, offline_NF = np.full(size, np.nan, np.float32), np.full(size, np.nan, np.float32)
    cause_NF, is_found_N = np.full(size, "", object), np.zeros(len(shown), bool)
    logged_NF = features_of_rows(shown, names)
    for rows, one, state in asked_again(replay, shown):
        if state.features_KF is None:
            continue
        places_S = _places(replay, state, shown["item_id"][rows.start : rows.stop])
        is_found_S = places_S >= 0
        at, found_S = np.arange(rows.start, rows.stop)[is_found_S], places_S[is_found_S]
        is_found_N[at] = True
        served_NF[at] = state.features_KF[found_S]
        assert replay.log is not None
        of_list = offline.look(one, state, replay.log, names, found_S)
        offline_NF[at] = of_list.features_SF
        cause_NF[at] = of_list.causes(logged_NF[at], served_NF[at])
    return Again(shown, names, logged_NF, served_NF, offline_NF, cause_NF, is_found_N)


class Variant(NamedTuple):
    """Another way in which a version could have served."""

    words: str
    lag_s: float = 0.0  # what came within so many seconds before a request is not known yet
    shift: int = 0  # each candidate has the features of another one, so many places before


def served_otherwise(
    bundles: ServedBundles, stages: StagesConfig, shown: pl.DataFrame, told: Told, variant: Variant
) -> Float32s:
    """features_NF as they would have been; NaN: the item is not found.

    Args:
        shown: as of ``features_again``, in the order of its answer.
    """
    names = _names(bundles)
    served_NF = np.full((len(shown), len(names)), np.nan, np.float32)
    replay = Replay(bundles, stages, told.events, told.facts)
    late = shown.with_columns(pl.col("asked_at") - variant.lag_s)
    for rows, _, state in asked_again(replay, late):
        places_S = _places(replay, state, shown["item_id"][rows.start : rows.stop])
        is_found_S = places_S >= 0
        if state.features_KF is not None:
            moved_KF = np.roll(state.features_KF, variant.shift, axis=0)
            served_NF[np.arange(rows.start, rows.stop)[is_found_S]] = moved_KF[places_S[is_found_S]]
    return served_NF


def _places(replay: Replay, state: RequestState, items: pl.Series) -> Int64s:
    """Of items among what was ranked; -1: they are not."""
    place_of = {item: place for place, item in enumerate(state.ranked.item_ids_K.tolist())}
    rows = replay.catalogue.item_rows
    return np.array([place_of.get(rows.get(item, -1), -1) for item in items], np.int64)


def asked_again(replay: Replay, shown: pl.DataFrame) -> Iterator[tuple[range, Asked, RequestState]]:
    """The rows of each list, what was asked, and what comes of it."""
    starts = np.flatnonzero(shown["request_id"].rle_id().cast(pl.Int64).diff().fill_null(1).to_numpy() != 0)
    ends = np.append(starts[1:], len(shown))
    first = shown[starts].with_columns(at="asked_at")
    asked = [Asked(*row) for row in first.select(Asked._fields).iter_rows()]
    for start, end, one, state in zip(
        starts.tolist(), ends.tolist(), asked, replay.states(asked), strict=True
    ):
        yield range(start, end), one, state


def _names(bundles: ServedBundles) -> tuple[str, ...]:
    ranker = OpenedVersion(bundles).ranker
    assert ranker is not None
    return ranker.feature_names


class OfList(NamedTuple):
    """Of the items of a list, offline."""

    features_SF: Float32s
    by_cause: Mapping[
        str, Float32s
    ]  # features_SF with the conditions of serving put back, one after the other
    last: str  # the cause where only serving itself gives what was logged

    def causes(self, logged_SF: Float32s, served_SF: Float32s) -> npt.NDArray[np.object_]:
        """Of what differs; "": nothing does, or no condition of serving explains it."""
        cause_SF = np.where(same(logged_SF, served_SF), self.last, "").astype(object)
        for cause, features_SF in reversed(list(self.by_cause.items())):
            cause_SF[same(logged_SF, features_SF)] = cause
        cause_SF[same(logged_SF, self.features_SF)] = ""
        return cause_SF


class Offline:
    """All events, those of the version's data and those that came since, as a training would see them.

    Args:
        version: as it was published.
    """

    def __init__(self, version: OpenedVersion, told: Told) -> None:
        base = version.event_log
        assert isinstance(base, EventLog)
        self._base, self._known_users = base, version.user_rows
        users = told.events["user_id"].drop_nulls().unique(maintain_order=True)
        new = [user for user in users if user not in version.user_rows]
        self._user_rows = {**version.user_rows, **{u: base.num_users + n for n, u in enumerate(new)}}
        self._item_rows = version.item_rows
        self._trusted, self._all = self._with(told.trusted), self._with(told.events)
        self._made: tuple[Items, tuple[EventLog, EventLog]] | None = None  # for the items of now
        self._received_N: Float64s = told.events["received"].to_numpy()
        self._at_N: Float64s = told.events["at"].to_numpy()

    def _with(self, events: pl.DataFrame) -> EventLog:
        base, nobody = self._base, len(self._user_rows)
        found = events.filter(pl.col("kind").is_in(sorted(WANTED))).with_columns(
            user=pl.col("user_id").replace_strict(self._user_rows, default=nobody, return_dtype=pl.Int64),
            item=pl.col("item_id").replace_strict(self._item_rows, default=-1, return_dtype=pl.Int64),
            rating=pl.when(kind="rating").then("value").otherwise(1.0),
            second=pl.min_horizontal("at", "received").floor().cast(pl.Int64),
        )
        found = found.filter(pl.col("item") >= 0)
        return EventLog(
            np.concatenate([base.user_ids_N, found["user"].to_numpy()]),
            np.concatenate([base.item_ids_N, found["item"].to_numpy()]),
            np.concatenate([base.ratings_N, found["rating"].to_numpy()]),
            np.concatenate([base.timestamps_N, found["second"].to_numpy()]),
            num_users=nobody + 1,
            num_items=base.num_items,
            items=base.items,
        )

    def look(
        self, asked: Asked, state: RequestState, served: LookUps, names: Sequence[str], places_S: Int64s
    ) -> OfList:
        """
        Args:
            served: what the version looked into.
            places_S: of the items among what was ranked.
        """
        if served.num_items != self._trusted.num_items:
            self._trusted, self._all = (log.with_items(served.items, served.num_items) for log in self._both)
        user = self._user_rows.get(asked.user_id or "", UNKNOWN_USER)

        def features(log: EventLog, until: int | None) -> Float32s:
            query = RankingQuery(user, asked.request_time, *state.ranked, known_until=until)
            return compute(log, query, names)[places_S]

        as_served = self._as_served(served)
        by_cause = {
            CLOCK: features(self._trusted, served.end),
            ITEMS: features(as_served[0], served.end),
            LEFT_OUT: features(as_served[1], served.end),
        }
        return OfList(features(self._trusted, None), by_cause, self._last(asked, served))

    def _as_served(self, served: LookUps) -> tuple[EventLog, EventLog]:
        if self._made is None or self._made[0] is not served.items:
            trusted, everything = (log.with_items(served.items, served.num_items) for log in self._both)
            self._made = served.items, (trusted, everything)
        return self._made[1]

    @property
    def _both(self) -> tuple[EventLog, EventLog]:
        return self._trusted, self._all

    def _last(self, asked: Asked, served: LookUps) -> str:
        came_later_N = (self._received_N >= asked.at) & (np.floor(self._at_N) < asked.request_time)
        if came_later_N.any():
            return LATE
        if asked.user_id is not None and asked.user_id not in self._known_users:
            return STRANGER
        return GAP if served.newest > served.end else LIVE
