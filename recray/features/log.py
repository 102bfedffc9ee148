"""The point-in-time event log: what was known strictly before a moment, and nothing later.

Every look-up takes a time t (unix seconds) and sees the events with timestamp < t only: neither the
event that happens at t nor any other event of that second. Answers are exact integers, or sums that
are exact in float64 whatever the order of addition (ratings are kept as multiples of 2**-16), so an
answer is bit-equal whatever else the log holds at or after t, however many threads sum it and
whichever query was asked before.

Owns: the events, their order by item and by user, the genres and release years of the items, and
their files in a bundle. Leaves to ``features.ranking``: what a feature is.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from recray.arrays import Float32s, Float64s, Int32s, Int64s
from recray.features.items import Items, check_items, item_features, item_frame, no_item_features
from recray.schema import DataError

DAY_S = 86_400
WINDOWS_DAYS = (7, 30, 90)
RATING_STEP = 2.0**-16  # ratings are rounded to it, which makes every sum of them exact
MAX_RATING_SUM = 2.0**36  # beyond it float64 could no longer hold the sum in steps of RATING_STEP
RECENT_EVENTS = 512  # a user's taste is read from at most so many latest events
FOLLOW_SOURCES = 256  # how many latest occurrences of an item are looked at for what came next
FOLLOW_STEPS = 8  # how many events after each of them
EVENT_FILE, ITEM_FILE = "events.parquet", "items.parquet"
_EDGE_CACHE_DAYS = 8

logger = logging.getLogger(__name__)


class ItemState(NamedTuple):
    """K items strictly before a time. The times are meaningless where ``events_K`` is 0."""

    events_K: Int64s
    window_events_WK: Int64s  # since midnight UTC so many days before, one row for each of WINDOWS_DAYS
    rating_sum_K: Float64s
    first_time_K: Int64s  # unix seconds
    last_time_K: Int64s


class UserState(NamedTuple):
    """One user strictly before a time; NaN is what is not known."""

    item_ids_H: npt.NDArray[np.integer[Any]]  # the last RECENT_EVENTS items, oldest first
    ratings_H: npt.NDArray[np.floating[Any]]  # NaN where unknown
    num_events: int
    window_events_W: tuple[float, ...]  # one for each of WINDOWS_DAYS
    rating_sum: float
    first_time: float  # unix seconds
    last_time: float


class UserEvents(NamedTuple):
    """What one user did, oldest first."""

    item_ids_H: Int32s
    times_H: Int64s  # unix seconds


class _Order(NamedTuple):
    """Events sorted by (owner, time), ties in the order in which they came."""

    keys_N: Int64s  # owner * span + time - origin
    padded_keys_N: Int64s  # the same and FOLLOW_STEPS more that are later than any time
    starts: Int64s  # one entry per owner and one more: where its events begin
    rating_sums_N: Float64s  # N + 1 entries, running total before each position


class EventLog:
    """Who did what when, ready for look-ups strictly before any time.

    Args:
        user_ids_N, item_ids_N: int64, in 0..num_users-1 and 0..num_items-1.
        ratings_N: float32, finite; 1.0 where the source has none.
        timestamps_N: int64 unix seconds, any order; events of one second keep the order given.
        items: genres and years of the ``num_items`` items.
    Raises:
        DataError: arrays of different lengths, ids out of range, a rating that is not finite, or
            timestamps whose span times the number of users or items does not fit in 63 bits
            (milliseconds where seconds are meant).
    """

    def __init__(
        self,
        user_ids_N: npt.ArrayLike,
        item_ids_N: npt.ArrayLike,
        ratings_N: npt.ArrayLike,
        timestamps_N: npt.ArrayLike,
        *,
        num_users: int,
        num_items: int,
        items: Items | None = None,
    ) -> None:
        self.num_users, self.num_items = num_users, num_items
        self.items = items or no_item_features(num_items)
        users_N, items_N = np.asarray(user_ids_N, np.int64), np.asarray(item_ids_N, np.int64)
        ratings, times_N = np.asarray(ratings_N, np.float64), np.asarray(timestamps_N, np.int64)
        _check_events(users_N, items_N, ratings, times_N, num_users, num_items)
        check_items(self.items, num_items)
        order_N = np.argsort(times_N, kind="stable")
        self.user_ids_N: Int32s = users_N[order_N].astype(np.int32)
        self.item_ids_N: Int32s = items_N[order_N].astype(np.int32)
        self.timestamps_N = times_N[order_N]
        # Float32 keeps multiples of the step: where its own steps are coarser, they are multiples too.
        steps_N = np.rint(ratings[order_N] / RATING_STEP)
        self.ratings_N = (steps_N * RATING_STEP).astype(np.float32)
        self._index()

    def _index(self) -> None:
        """Sort by item and by user, with running totals; see ``_Order``."""
        times_N, count = self.timestamps_N, len(self.timestamps_N)
        self._origin = int(times_N[0]) if count else 0
        self._end = int(times_N[-1]) - self._origin + 1 if count else 0  # relative, after the last event
        self._span = _checked_span(self._end + 1, max(self.num_users, self.num_items))
        self._by_item, by_item_N = self._sorted_by(self.item_ids_N, self.num_items)
        self._by_user, by_user_N = self._sorted_by(self.user_ids_N, self.num_users)
        self._user_ratings_N = self.ratings_N[by_user_N]
        # For what came next: from the place of an event in its item's row to its place in its user's.
        place_N = np.empty(count, np.int32)
        place_N[by_user_N] = np.arange(count, dtype=np.int32)
        self._user_place_N = place_N[by_item_N]
        self._user_items_N = np.append(self.item_ids_N[by_user_N], np.zeros(FOLLOW_STEPS, np.int32))
        self._rating_sums_N = _running(self.ratings_N)
        # Float64 because integer matrices are multiplied without BLAS; entries are 0 and 1.
        self.genres_IG = self.items.genres_IG.astype(np.float64)
        self.genre_counts_I = self.genres_IG.sum(axis=1)
        self.years_I = self.items.years_I.astype(np.float64)
        self._edges: dict[int, Int64s] = {}

    def _sorted_by(self, owner_N: Int32s, num_owners: int) -> tuple[_Order, Int64s]:
        keys_N = owner_N.astype(np.int64) * self._span + (self.timestamps_N - self._origin)
        order_N = np.argsort(keys_N, kind="stable")
        padded_N = np.append(keys_N[order_N], np.full(FOLLOW_STEPS, np.iinfo(np.int64).max))
        starts = np.zeros(num_owners + 1, np.int64)
        np.cumsum(np.bincount(owner_N, minlength=num_owners), out=starts[1:])
        order = _Order(padded_N[: len(keys_N)], padded_N, starts, _running(self.ratings_N[order_N]))
        return order, order_N

    def __len__(self) -> int:
        return len(self.timestamps_N)

    def _relative(self, time: int) -> int:
        """``time`` on the log's own clock, clipped to before the first and after the last event."""
        return min(max(int(time) - self._origin, 0), self._end)

    # ------------------------------------------------------------------ items

    def items_before(self, item_ids_K: Int64s, time: int) -> ItemState:
        """The state of K items strictly before ``time``. Int32s must lie in the catalogue."""
        order, relative = self._by_item, self._relative(time)
        start_K = order.starts.take(item_ids_K)
        base_K = item_ids_K * self._span
        if relative >= self._end:  # live traffic: all that is known has happened
            stop_K = order.starts.take(item_ids_K + 1)
        else:
            stop_K = order.keys_N.searchsorted(base_K + relative)
        edges_WK = self._window_edges(int(time) // DAY_S).take(item_ids_K, axis=1)
        events_K = stop_K - start_K
        return ItemState(
            events_K,
            stop_K - edges_WK,
            order.rating_sums_N.take(stop_K) - order.rating_sums_N.take(start_K),
            self._times(start_K, base_K),
            self._times(stop_K - 1, base_K),
        )

    def _times(self, place_K: Int64s, base_K: Int64s) -> Int64s:
        keys_N = self._by_item.keys_N
        if not len(keys_N):
            return np.zeros(len(place_K), np.int64)
        return keys_N.take(place_K, mode="clip") - base_K + self._origin

    def _window_edges(self, day: int) -> Int64s:
        """edges_WI: how many of all events, in item order, lie before each window of that day begins.

        Windows begin at midnight UTC, so that all requests of a day share them: looking them up costs
        a gather, not a search per candidate.
        """
        edges_WI = self._edges.get(day)
        if edges_WI is None:
            base_I = np.arange(self.num_items, dtype=np.int64) * self._span
            starts = [self._relative((day - days) * DAY_S) for days in WINDOWS_DAYS]
            edges_WI = np.stack([self._by_item.keys_N.searchsorted(base_I + start) for start in starts])
            # A new dictionary instead of a change in place: threads may be reading the old one.
            kept = list(self._edges.items())[-(_EDGE_CACHE_DAYS - 1) :]
            self._edges = dict([*kept, (day, edges_WI)])
        return edges_WI

    def mean_rating_before(self, time: int) -> float:
        """Mean rating of all events strictly before ``time``; NaN where there are none."""
        place = int(self.timestamps_N.searchsorted(int(time)))
        return float(self._rating_sums_N[place]) / place if place else float("nan")

    # ------------------------------------------------------------------ users

    def user_before(self, user_id: int, time: int) -> UserState:
        """The state of one user strictly before ``time``; -1 is a user without events.

        Raises:
            DataError: the id is neither -1 nor a user of the log.
        """
        if user_id == -1:
            return history_state(np.empty(0, np.int64))
        if not 0 <= user_id < self.num_users:
            raise DataError(f"user id {user_id} is not in the log (0..{self.num_users - 1}, or -1: unknown)")
        order, base = self._by_user, user_id * self._span
        start, end = int(order.starts[user_id]), int(order.starts[user_id + 1])
        day = int(time) // DAY_S
        moments = [time, *((day - days) * DAY_S for days in WINDOWS_DAYS)]
        keys = [base + self._relative(moment) for moment in moments]
        stop, *edges = (order.keys_N[start:end].searchsorted(keys) + start).tolist()
        recent = slice(max(start, stop - RECENT_EVENTS), stop)
        known = stop > start
        clock = self._origin - base
        return UserState(
            self._user_items_N[recent],
            self._user_ratings_N[recent],
            stop - start,
            tuple(float(stop - edge) for edge in edges),
            float(order.rating_sums_N[stop] - order.rating_sums_N[start]),
            float(order.keys_N[start] + clock) if known else float("nan"),
            float(order.keys_N[stop - 1] + clock) if known else float("nan"),
        )

    def seen_before(self, user_id: int, time: int) -> Int32s:
        """All items of a user's events strictly before ``time``, oldest first; none for a user of -1."""
        return self.events_before(user_id, time).item_ids_H

    def events_before(self, user_id: int, time: int) -> UserEvents:
        """All of a user's events strictly before ``time``; none for a user of -1."""
        if user_id == -1:
            return UserEvents(self._user_items_N[:0], self._by_user.keys_N[:0])
        start, end = self._by_user.starts[user_id : user_id + 2].tolist()
        base = user_id * self._span
        passed = self._by_user.keys_N[start:end].searchsorted(base + self._relative(time))
        rows = slice(start, start + int(passed))
        return UserEvents(self._user_items_N[rows], self._by_user.keys_N[rows] - base + self._origin)

    # ------------------------------------------------------------- what came next

    def followers_before(self, item_id: int, time: int) -> tuple[Int64s, int]:
        """What users did next after ``item_id``, strictly before ``time``.

        Returns:
            counts_I, int64: how often each item came within FOLLOW_STEPS events of the same user after
            one of the latest FOLLOW_SOURCES occurrences of ``item_id``; and how many occurrences
            were looked at.
        """
        order, base, relative = self._by_item, item_id * self._span, self._relative(time)
        first = int(order.starts[item_id])
        stop = int(order.keys_N.searchsorted(base + relative))
        rows = slice(max(first, stop - FOLLOW_SOURCES), stop)
        place_M = self._user_place_N[rows]
        # Where the user's own events reach ``time``: the key of this event, moved to that moment.
        limit_M = self._by_user.keys_N[place_M] - (order.keys_N[rows] - base) + relative
        next_MS = place_M[:, None] + np.arange(1, FOLLOW_STEPS + 1)
        seen_MS = self._by_user.padded_keys_N[next_MS] < limit_M[:, None]
        items_N = self._user_items_N[next_MS[seen_MS]]
        return np.bincount(items_N, minlength=self.num_items), len(place_M)

    # ------------------------------------------------------------------ growth and files

    def extended(
        self,
        user_ids_N: npt.ArrayLike,
        item_ids_N: npt.ArrayLike,
        ratings_N: npt.ArrayLike,
        timestamps_N: npt.ArrayLike,
    ) -> "EventLog":
        """A new log with more events (served feedback); users beyond the known ones extend the range.

        The old log stays as it is, so a replica swaps one for the other between two requests.
        """
        users = np.concatenate([self.user_ids_N, np.asarray(user_ids_N, np.int64)])
        return EventLog(
            users,
            np.concatenate([self.item_ids_N, np.asarray(item_ids_N, np.int64)]),
            np.concatenate([self.ratings_N, np.asarray(ratings_N, np.float64)]),
            np.concatenate([self.timestamps_N, np.asarray(timestamps_N, np.int64)]),
            num_users=max(self.num_users, int(users.max(initial=-1)) + 1),
            num_items=self.num_items,
            items=self.items,
        )

    def events(self) -> pl.DataFrame:
        """user_id, item_id, rating, timestamp; by time, ties in the order in which they came."""
        return pl.DataFrame(
            {
                "user_id": self.user_ids_N,
                "item_id": self.item_ids_N,
                "rating": self.ratings_N,
                "timestamp": self.timestamps_N,
            }
        )

    def save(self, folder: Path) -> None:
        """Write ``events.parquet``, and ``items.parquet`` unless the folder has one already.

        A bundle's own ``items.parquet`` (raw_id, title, genres, year) already says what the log needs.
        """
        counts = {"num_users": str(self.num_users), "num_items": str(self.num_items)}
        self.events().write_parquet(folder / EVENT_FILE, metadata=counts)
        if not (folder / ITEM_FILE).exists():
            item_frame(self.items).write_parquet(folder / ITEM_FILE)

    @staticmethod
    def load(folder: Path) -> "EventLog":
        """The log that ``save`` wrote.

        Raises:
            DataError: a file is missing or lacks a column.
        """
        for name in (EVENT_FILE, ITEM_FILE):
            if not (folder / name).exists():
                raise DataError(
                    f"{folder / name}: missing; an event log needs it, write it with EventLog.save"
                )
        frame, items = pl.read_parquet(folder / EVENT_FILE), pl.read_parquet(folder / ITEM_FILE)
        wanted = ["user_id", "item_id", "rating", "timestamp"]
        for column in wanted:
            if column not in frame.columns:
                raise DataError(
                    f"{folder / EVENT_FILE}: no column {column!r}, has {', '.join(frame.columns)}"
                )
        counts = pl.read_parquet_metadata(folder / EVENT_FILE)
        num_users = int(counts.get("num_users", 1 + int(frame["user_id"].to_numpy().max(initial=-1))))
        logger.info("event log: %d events, %d items from %s", len(frame), len(items), folder)
        return EventLog(
            *(frame[column].to_numpy() for column in wanted),
            num_users=num_users,
            num_items=len(items),
            items=item_features(items),
        )


def history_state(item_ids_H: Int64s, times_H: Int64s | None = None, time: int | None = None) -> UserState:
    """The state that an explicit history gives, oldest first; what it does not say is NaN.

    With times, entries that are not strictly before ``time`` are left out.
    """
    nan = float("nan")
    windows: tuple[float, ...] = (nan,) * len(WINDOWS_DAYS)
    first = last = nan
    if times_H is not None and time is not None:
        item_ids_H, times_H = item_ids_H[times_H < time], times_H[times_H < time]
        edges = [(time // DAY_S - days) * DAY_S for days in WINDOWS_DAYS]
        windows = tuple(float((times_H >= edge).sum()) for edge in edges)
        if len(times_H):
            first, last = float(times_H.min()), float(times_H.max())
    elif not len(item_ids_H):
        windows = (0.0,) * len(WINDOWS_DAYS)
    recent_H = item_ids_H[-RECENT_EVENTS:]
    unrated_H = np.full(len(recent_H), nan)
    rating_sum = nan if len(item_ids_H) else 0.0
    return UserState(recent_H, unrated_H, len(item_ids_H), windows, rating_sum, first, last)


def _running(values_N: Float32s) -> Float64s:
    """N + 1 entries: the total before each position. Exact: see RATING_STEP."""
    return np.append(0.0, np.cumsum(values_N, dtype=np.float64))


def _checked_span(span: int, owners: int) -> int:
    limit = np.iinfo(np.int64).max
    if (owners + 1) * span > limit:
        raise DataError(
            f"timestamps span {span} s, which times {owners} users or items does not fit in 63 bits; "
            "timestamps are unix seconds: divide milliseconds by 1000"
        )
    return span


def _check_events(
    users_N: Int64s, items_N: Int64s, ratings_N: Float64s, times_N: Int64s, num_users: int, num_items: int
) -> None:
    lengths: Sequence[int] = (len(users_N), len(items_N), len(ratings_N), len(times_N))
    if len(set(lengths)) > 1:
        raise DataError(f"users, items, ratings and timestamps have {lengths} entries; give one per event")
    if max(num_users, num_items, len(users_N)) > np.iinfo(np.int32).max:
        raise DataError("an event log holds at most 2**31 - 1 events, users and items; split it by time")
    for name, ids_N, size in (("user", users_N, num_users), ("item", items_N, num_items)):
        if len(ids_N) and (ids_N.min() < 0 or ids_N.max() >= size):
            wrong = ids_N[(ids_N < 0) | (ids_N >= size)][0]
            raise DataError(f"{name} id {wrong} in the log is not in 0..{size - 1}")
    if not np.isfinite(ratings_N).all():
        place = int(np.flatnonzero(~np.isfinite(ratings_N))[0])
        raise DataError(f"rating {ratings_N[place]} of event {place} is not finite; drop it or give 1.0")
    if np.abs(ratings_N).sum() > MAX_RATING_SUM:
        raise DataError(f"ratings sum to more than {MAX_RATING_SUM:.0f}; scale them to a few units")
