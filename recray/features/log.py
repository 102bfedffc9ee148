"""The point-in-time event log: what was known strictly before a moment, and nothing later.

Every look-up takes a time t (unix seconds) and sees the events with timestamp < t only: neither the
event that happens at t nor any other event of that second (see ``past``). Answers are exact, so they are
bit-equal whatever else the log holds at or after t, however many threads sum it and whichever query
was asked before.

Owns: the events, their order by item and by user, what is known of the items besides, and their files
in a bundle. Leaves to ``past``: what is known before a moment; to ``ranking``: what a feature is.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recray.arrays import Float32s, Float64s, Int32s, Int64s
from recray.features.items import NO_ITEM_FEATURES, Items, check_items, item_features, item_frame
from recray.features.look_ups import UserEvents
from recray.features.overlap import Overlap
from recray.features.past import (
    RATING_STEP,
    RECENT_EVENTS,
    SORTED,
    Clock,
    Order,
    Past,
    UserPast,
    brought_history,
    heard_until,
    mean,
    midnight,
    running,
)
from recray.ops import look_ups as loops
from recray.schema import DataError

MAX_RATING_SUM = 2.0**36  # beyond it float64 could no longer hold the sum in steps of RATING_STEP
FOLLOW_SOURCES = 256  # how many latest occurrences of an item are looked at for what came next
FOLLOW_STEPS = 8  # how many events after each of them
_ARRAYS = (
    *("user_ids_N", "item_ids_N", "timestamps_N", "ratings_N", "rating_sums_N"),
    *("_user_items_N", "_user_ratings_N", "_user_place_N"),
)
EVENT_FILE, ITEM_FILE = "events.parquet", "items.parquet"

logger = logging.getLogger(__name__)


class EventLog:
    """Who did what when, ready for look-ups strictly before any time.

    Args:
        user_ids_N, item_ids_N: int64, in 0..num_users-1 and 0..num_items-1.
        ratings_N: float32, finite; 1.0 where the source has none.
        timestamps_N: int64 unix seconds, any order; events of one second keep the order given.
        items: labels, numbers and dates of the ``num_items`` items.
        after: a log of as many users and items whose events came before these. The outcome is as if it was
            made of all of them at once; sorting is spared.
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
        after: "EventLog | None" = None,
    ) -> None:
        self.num_users, self.num_items = num_users, num_items
        self.items = items or NO_ITEM_FEATURES
        self.columns = self.items.columns()
        users_N, items_N = np.asarray(user_ids_N, np.int64), np.asarray(item_ids_N, np.int64)
        ratings, times_N = np.asarray(ratings_N, np.float64), np.asarray(timestamps_N, np.int64)
        _check_events(users_N, items_N, ratings, times_N, num_users, num_items)
        check_items(self.items, num_items)
        if after:
            users_N = np.concatenate([after.user_ids_N, users_N], dtype=np.int64)
            items_N = np.concatenate([after.item_ids_N, items_N], dtype=np.int64)
            ratings = np.concatenate([after.ratings_N, ratings], dtype=np.float64)
            times_N = np.concatenate([after.timestamps_N, times_N])
        order_N = np.argsort(times_N, kind="stable")
        self.user_ids_N: Int32s = users_N[order_N].astype(np.int32)
        self.item_ids_N: Int32s = items_N[order_N].astype(np.int32)
        self.timestamps_N: Int64s = times_N[order_N]
        # Float32 keeps multiples of the step: where its own steps are coarser, they are multiples too.
        steps_N = np.rint(ratings[order_N] / RATING_STEP)
        self.ratings_N: Float32s = (steps_N * RATING_STEP).astype(np.float32)
        self._index(*_nearly(after, order_N) if after else (None, None))

    def _index(self, by_item_N: Int32s | None, by_user_N: Int32s | None) -> None:
        """Sort by item and by user, with running totals; see ``Order``."""
        times_N, ratings_N = self.timestamps_N, self.ratings_N
        self._clock = clock = Clock.of(times_N, max(self.num_users, self.num_items))
        self.by_item = Order(self.item_ids_N, times_N, ratings_N, self.num_items, clock, by_item_N)
        self.by_user = Order(self.user_ids_N, times_N, ratings_N, self.num_users, clock, by_user_N)
        self._user_items_N = self.item_ids_N[self.by_user.order_N]
        self._user_ratings_N = ratings_N[self.by_user.order_N]
        # For what came next: from the place of an event in its item's row to its place in its user's.
        place_N = np.empty(len(times_N), np.int32)
        place_N[self.by_user.order_N] = np.arange(len(times_N), dtype=np.int32)
        self._user_place_N = place_N[self.by_item.order_N]
        self.rating_sums_N = running(ratings_N)
        self._overlaps: dict[str, Overlap] = {}

    def with_items(self, items: Items, num_items: int) -> "EventLog":
        """The same events, over a catalogue that goes on: items without events follow.

        Args:
            items: of all of them, with the same columns.
        """
        check_items(items, num_items)
        assert items.columns() == self.columns
        other = copy.copy(self)
        other.num_items, other.items, other._overlaps = num_items, items, {}
        other.by_item = self.by_item.with_owners(num_items)
        return other

    def __len__(self) -> int:
        return len(self.timestamps_N)

    @property
    def end(self) -> int:
        """The second after the last event, unix seconds: nothing is known of what came then or later."""
        return self._clock.origin + self._clock.end

    @property
    def newest(self) -> int:
        return self.end

    # ------------------------------------------------------------------ items

    def items_before(self, item_ids_K: Int64s, time: int, until: int | None = None) -> Past:
        """The past of K items strictly before ``time``. They must lie in the catalogue.

        Args:
            until: when the log counts as ended, see ``heard_until``; None: not before ``time``.
        """
        now = time if until is None else min(time, until)
        order, item_ids_K = self.by_item, np.ascontiguousarray(item_ids_K, np.int64)
        # Live traffic: all that is known has happened. Of few events (a live log's) no table is made.
        if time >= self.end and len(self) > self.num_items:
            return order.latest(item_ids_K, now)
        return order.past(item_ids_K, order.places_before(item_ids_K, time), now)

    def overlap(self, column: str) -> Overlap | None:
        """Of a column of labels, made when first asked for; None where the items do not have it."""
        if column not in self._overlaps and column in self.items.labels:
            self._overlaps[column] = Overlap(self.items.labels[column])
        return self._overlaps.get(column)

    def mean_rating_before(self, time: int) -> float:
        """Mean rating of all events strictly before ``time``; NaN where there are none."""
        return float(mean(*self.ratings_before(time)))

    def ratings_before(self, time: int) -> tuple[float, int]:
        """The sum of the ratings of all events strictly before ``time``, and how many there are."""
        count = int(self.timestamps_N.searchsorted(time))
        return float(self.rating_sums_N[count]), count

    # ------------------------------------------------------------------ users

    def user_before(self, user_id: int, time: int, until: int | None = None) -> UserPast:
        """One user strictly before ``time``; -1 is a user without events.

        Args:
            until: when the log counts as ended, see ``heard_until``; None: not before ``time``.
        Raises:
            DataError: the id is neither -1 nor a user of the log.
        """
        self.check_user(user_id)
        until = time if until is None else until
        if user_id == -1:
            return brought_history(np.empty(0, np.int64), time=min(time, until))
        order, clock, base = self.by_user, self._clock, user_id * self._clock.span
        start, end = order.starts[user_id : user_id + 2].tolist()
        own_keys = order.keys_N[start:end]

        def events_before(moment: int) -> int:
            return int(own_keys.searchsorted(base + clock.at(moment)))

        count = events_before(time)
        stop = start + count
        last = float(own_keys[count - 1] - base + clock.origin) if count else np.nan
        now = heard_until(time, until, last)
        recent = slice(max(start, stop - RECENT_EVENTS), stop)
        past = Past(
            count,
            float(order.rating_sums_N[stop] - order.rating_sums_N[start]),
            float(own_keys[0] - base + clock.origin) if count else np.nan,
            last,
            lambda days: count - events_before(midnight(now, days)),
            now,
        )
        return UserPast(self._user_items_N[recent], self._user_ratings_N[recent], past)

    def check_user(self, user_id: int) -> None:
        """
        Raises:
            DataError: the id is neither -1 nor a user of the log.
        """
        if not -1 <= user_id < self.num_users:
            raise DataError(f"user id {user_id} is not in the log (0..{self.num_users - 1}, or -1: unknown)")

    def seen_before(self, user_id: int, time: int, since: float = 0) -> Int32s:
        """All items of a user's events strictly before ``time``, oldest first; none for a user of -1."""
        return self.events_before(user_id, time).since(since)

    def events_before(self, user_id: int, time: int) -> UserEvents:
        """All of a user's events strictly before ``time``; none for a user of -1."""
        keys_N = self.by_user.keys_N
        if user_id == -1:
            return UserEvents(self._user_items_N[:0], keys_N[:0])
        start, end = self.by_user.starts[user_id : user_id + 2].tolist()
        base = user_id * self._clock.span
        passed = keys_N[start:end].searchsorted(base + self._clock.at(time))
        rows = slice(start, start + int(passed))
        return UserEvents(self._user_items_N[rows], keys_N[rows] - base + self._clock.origin)

    # ------------------------------------------------------------- what came next

    def followers_before(
        self,
        item_id: int,
        time: int,
        item_ids_K: Int64s,
        sources: int = FOLLOW_SOURCES,
        nobody: int | None = None,
    ) -> tuple[Int64s, int]:
        """What users did next after ``item_id``, strictly before ``time``.

        Args:
            sources: how many occurrences to look at, instead of FOLLOW_SOURCES.
            nobody: a user that is none in particular: what many did is not taken for one's.
        Returns:
            counts_K, int64: how often each of K items came within FOLLOW_STEPS events of the same user
            after one of the latest FOLLOW_SOURCES occurrences of ``item_id``; and how many occurrences
            were looked at.
        """
        order, user_keys_N = self.by_item, self.by_user.ended_keys_N
        base, relative = item_id * self._clock.span, self._clock.at(time)
        first = int(order.starts[item_id])
        stop = int(order.keys_N.searchsorted(base + relative))
        rows = slice(max(first, stop - sources), stop)
        place_M, times_M = self._user_place_N[rows], order.keys_N[rows] - base
        if nobody is not None:
            is_someone_M = self.user_ids_N[order.order_N[rows]] != nobody
            place_M, times_M = place_M[is_someone_M], times_M[is_someone_M]
        # Where the user's own events reach ``time``: the key of this event, moved to that moment.
        limit_M = user_keys_N[place_M] - times_M + relative
        counts_K = loops.followers(
            place_M,
            limit_M,
            FOLLOW_STEPS,
            user_keys_N,
            self._user_items_N,
            np.ascontiguousarray(item_ids_K, np.int64),
        )
        return counts_K, len(place_M)

    def latest_of(self, item_id: int, count: int) -> tuple[Int32s, Int64s]:
        """Of the latest occurrences of an item: whose they are, and how many events of that user follow."""
        first, stop = self.by_item.starts[item_id : item_id + 2].tolist()
        rows = slice(max(first, stop - count), stop)
        user_M = self.user_ids_N[self.by_item.order_N[rows]]
        return user_M, self.by_user.starts[user_M + 1] - 1 - self._user_place_N[rows]

    def first_of(self, user_M: Int32s, count_M: Int64s, time: int) -> Int32s:
        """The items of the first so many events of each user, strictly before ``time``, in any order."""
        start_M = self.by_user.starts[user_M]
        passed_M = self.by_user.places_before(user_M.astype(np.int64), time) - start_M
        count_M = np.minimum(count_M, passed_M)
        place_N = np.repeat(start_M - (np.cumsum(count_M) - count_M), count_M) + np.arange(count_M.sum())
        items_N: Int32s = self._user_items_N[place_N]
        return items_N

    # ------------------------------------------------------------------ files

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

        A bundle's own ``items.parquet`` (raw_id, title and all side columns) already says what the log needs.
        """
        counts = {"num_users": str(self.num_users), "num_items": str(self.num_items)}
        self.events().write_parquet(folder / EVENT_FILE, metadata=counts)
        if not (folder / ITEM_FILE).exists():
            item_frame(self.items, self.num_items).write_parquet(folder / ITEM_FILE)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that is looked up, by name; ``of_arrays`` makes the same log of them, without sorting."""
        orders = {"by_item": self.by_item, "by_user": self.by_user}
        sorted_too = {f"{o}.{name}": a for o, order in orders.items() for name, a in order.arrays().items()}
        return {name: getattr(self, name) for name in _ARRAYS} | sorted_too

    @staticmethod
    def of_arrays(arrays: Mapping[str, npt.NDArray[Any]], items: Items) -> "EventLog":
        """
        Args:
            arrays: may be pages of a file.
            items: of the log that they were taken from.
        """
        log = EventLog.__new__(EventLog)
        vars(log).update({name: arrays[name] for name in _ARRAYS})
        log.items, log.columns, log._overlaps = items, items.columns(), {}
        starts = [arrays[f"{order}.starts"] for order in ("by_user", "by_item")]
        log.num_users, log.num_items = (len(each) - 1 for each in starts)
        log._clock = Clock.of(log.timestamps_N, max(log.num_users, log.num_items))
        log.by_user, log.by_item = (
            Order.of_arrays({name: arrays[f"{order}.{name}"] for name in SORTED}, log._clock)
            for order in ("by_user", "by_item")
        )
        return log

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
        frame, items = (
            pl.read_parquet(folder / EVENT_FILE, glob=False),
            pl.read_parquet(folder / ITEM_FILE, glob=False),
        )
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


def _nearly(before: EventLog, order_N: Int64s) -> tuple[Int32s, Int32s]:
    """The positions of a longer log, almost by item and by user: those of ``before``, then those that came.

    Args:
        order_N: of the longer log, over the events of ``before`` and then those that came.
    """
    place_N = np.empty(len(order_N), np.int32)
    place_N[order_N] = np.arange(len(order_N), dtype=np.int32)
    came_N = place_N[len(before) :]
    by_item_N, by_user_N = (place_N[order.order_N] for order in (before.by_item, before.by_user))
    return np.concatenate([by_item_N, came_N]), np.concatenate([by_user_N, came_N])


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
