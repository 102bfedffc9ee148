"""A log that goes on: the events that a version was made with, and those that came since.

What came since is a log of its own, made longer whenever something comes; every look-up asks both and adds.
Readers see the old state or the new one.

Shapes: K items, H events of a history, N events that came since.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recray.arrays import Int32s, Int64s
from recray.features.items import Items
from recray.features.log import FOLLOW_SOURCES, FOLLOW_STEPS, EventLog
from recray.features.look_ups import UserEvents
from recray.features.overlap import Overlap
from recray.features.past import DAY_S, RECENT_EVENTS, Past, UserPast, mean

USUAL_DAYS = 30  # before its end: how many events come on a day of this log
DENSE_SHARE = 0.1  # of a usual day: so many must have come since before the log counts as going on


class LiveEvent(NamedTuple):
    """One event that came since, in the rows of the log."""

    user_id: int  # -1: nobody whom the log knows; it counts for the item
    item_id: int
    rating: float
    time: int  # unix seconds


class LiveLog:
    """An event log that can be told more; thread-safe."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.num_users, self.num_items = log.num_users, log.num_items
        self.items, self.columns = log.items, log.columns
        usual = log.end - USUAL_DAYS * DAY_S
        events_a_day = (len(log) - int(log.timestamps_N.searchsorted(usual))) / USUAL_DAYS
        self._dense = max(1, round(DENSE_SHARE * events_a_day))
        self._lock = threading.Lock()
        self._since: EventLog | None = None

    def add(self, events: Sequence[LiveEvent]) -> None:
        """From now on they are known, but for those from before the end of the log, which it has learnt."""
        with self._lock:
            more = [event for event in events if event.time >= self._log.end]
            if not more:
                return
            users_N, *others = _columns(more)
            nobody_last_N = np.where(users_N < 0, self.num_users, users_N)
            self._since = EventLog(
                nobody_last_N,
                *others,
                num_users=self.num_users + 1,
                num_items=self.num_items,
                after=self._since,
            )

    def with_items(self, items: Items, num_items: int) -> "LiveLog":
        """Over a catalogue that goes on, and not told anything yet; see ``EventLog.with_items``."""
        return LiveLog(self._log.with_items(items, num_items))

    def take_over(self, other: "LiveLog") -> None:
        """Knows what another one of the same log was told, whose catalogue is not longer."""
        since = other._since
        self._since = since and since.with_items(since.items, self.num_items)

    def __len__(self) -> int:
        return len(self._log) + (0 if self._since is None else len(self._since))

    @property
    def end(self) -> int:
        """Of the log, or of what came since: once a tenth of a usual day has come, the log goes on; a handful
        of events do not make it young."""
        since = self._since
        if since is None or len(since) < self._dense:
            return self._log.end
        return max(self._log.end, int(since.timestamps_N[-self._dense]) + 1)

    def items_before(self, item_ids_K: Int64s, time: int, until: int | None = None) -> Past:
        past, since = self._log.items_before(item_ids_K, time, until), self._since
        return past if since is None else _both(past, since.items_before(item_ids_K, time, until))

    def mean_rating_before(self, time: int) -> float:
        total, count = self._log.ratings_before(time)
        if self._since is not None:
            more = self._since.ratings_before(time)
            total, count = total + more[0], count + more[1]
        return float(mean(total, count))

    def user_before(self, user_id: int, time: int, until: int | None = None) -> UserPast:
        since = self._since
        if since is None or user_id == -1:
            return self._log.user_before(user_id, time, until)
        newer = since.user_before(user_id, time, until)
        # Heard of since the log ended: then time goes on for what happened before as well.
        goes_on = until is None or newer.past.now_K > until
        older = self._log.user_before(user_id, time, None if goes_on else until)
        return UserPast(
            np.concatenate([older.item_ids_H, newer.item_ids_H])[-RECENT_EVENTS:],
            np.concatenate([older.ratings_H, newer.ratings_H])[-RECENT_EVENTS:],
            _both(older.past, newer.past),
        )

    def check_user(self, user_id: int) -> None:
        self._log.check_user(user_id)

    def seen_before(self, user_id: int, time: int) -> Int32s:
        return self.events_before(user_id, time).item_ids_H

    def events_before(self, user_id: int, time: int) -> UserEvents:
        older, since = self._log.events_before(user_id, time), self._since
        if since is None or user_id == -1:
            return older
        newer = since.events_before(user_id, time)
        if not len(newer.item_ids_H):
            return older
        return UserEvents(
            np.concatenate([older.item_ids_H, newer.item_ids_H]),
            np.concatenate([older.times_H, newer.times_H]),
        )

    def followers_before(self, item_id: int, time: int, item_ids_K: Int64s) -> tuple[Int64s, int]:
        log, since = self._log, self._since
        if since is None or time <= log.end:
            return log.followers_before(item_id, time, item_ids_K)
        newer_K, newer = since.followers_before(item_id, time, item_ids_K, nobody=self.num_users)
        older_K, older = log.followers_before(item_id, time, item_ids_K, FOLLOW_SOURCES - newer)
        counts_K = newer_K + older_K
        # What came before the end of the log, and was followed after it.
        user_M, steps_M = log.latest_of(item_id, FOLLOW_SOURCES - newer)
        goes_on_M = steps_M < FOLLOW_STEPS
        across = since.first_of(user_M[goes_on_M], FOLLOW_STEPS - steps_M[goes_on_M], time)
        if len(across):
            counts_K += np.bincount(across, minlength=self.num_items)[item_ids_K]
        return counts_K, newer + older

    def overlap(self, column: str) -> Overlap | None:
        return self._log.overlap(column)


def _columns(events: Sequence[LiveEvent]) -> list[npt.NDArray[Any]]:
    """users_N, items_N, ratings_N and times_N."""
    kinds = (np.int64, np.int64, np.float64, np.int64)
    return [np.array(column, kind) for column, kind in zip(zip(*events, strict=True), kinds, strict=True)]


def _both(older: Past, newer: Past) -> Past:
    """Of the same owners at the same moment."""
    return Past(
        np.add(older.events_K, newer.events_K),
        older.rating_sum_K + newer.rating_sum_K,
        np.fmin(older.first_time_K, newer.first_time_K),
        np.fmax(older.last_time_K, newer.last_time_K),
        lambda days: np.add(older.events_since(days), newer.events_since(days)),
        older.now_K,
    )
