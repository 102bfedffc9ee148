"""A log that goes on: the events that a version was made with, and those that came since.

What came since is a log of its own, made longer whenever something comes; every look-up asks both and adds.
Readers see the old state or the new one.

Shapes: K items, H events of a history, N events that came since.
"""

import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recray.arrays import Int32s, Int64s
from recray.features.histories import Histories
from recray.features.items import Items
from recray.features.log import FOLLOW_SOURCES, FOLLOW_STEPS, EventLog
from recray.features.look_ups import UserEvents
from recray.features.overlap import Overlap
from recray.features.past import DAY_S, RECENT_EVENTS, Past, UserPast, mean

USUAL_DAYS = 30  # before its end: how many events come on a day of this log
DENSE_SHARE = 0.1  # of a usual day: so many must have come within a day for the log to go on, and
# so many on a day before that day counts at all
FEWEST_A_DAY = 20  # usual events: where fewer come, several days count as one


class LiveEvent(NamedTuple):
    """One event that came since, in the rows of the log."""

    user_id: int  # -1: nobody whom the log knows; it counts for the item
    item_id: int
    rating: float
    time: int  # unix seconds


class _Since(NamedTuple):
    """What came since the end of a log."""

    log: EventLog
    newest: int  # the second after the newest event that counts
    unheard_s: int  # of the days until then on which nearly nothing came: nobody listened, and time stood


class LiveLog:
    """An event log that can be told more; thread-safe.

    Between the end of the log and what came since there may be days or years of which nothing was heard. They
    do not count: windows and waits are those of days on which at least a tenth of the usual events came.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.num_users, self.num_items = log.num_users, log.num_items
        self.items, self.columns = log.items, log.columns
        usual = log.end - USUAL_DAYS * DAY_S
        first = int(log.timestamps_N.searchsorted(usual))
        days = (log.end - max(usual, int(log.timestamps_N[first]))) / DAY_S if first < len(log) else 1.0
        events_a_day = max((len(log) - first) / max(days, 1.0), 1e-3)
        self._day_s = DAY_S * max(1, math.ceil(FEWEST_A_DAY / events_a_day))
        self._dense = round(DENSE_SHARE * events_a_day * self._day_s / DAY_S)
        self._lock = threading.Lock()
        self._since: _Since | None = None
        self._late = Histories[int]()

    def add(self, events: Sequence[LiveEvent]) -> None:
        """From now on they are known, but for those from before the end of the log: it has learnt them, or
        they came too late for it; then their items count as seen at their time.

        Raises:
            DataError: as ``EventLog``; nothing of it was taken.
        """
        with self._lock:
            self._add_late([event for event in events if event.time < self._log.end])
            more = [event for event in events if event.time >= self._log.end]
            if not more:
                return
            users_N, *others = _columns(more)
            nobody_last_N = np.where(users_N < 0, self.num_users, users_N)
            since = EventLog(
                nobody_last_N,
                *others,
                num_users=self.num_users + 1,
                num_items=self.num_items,
                after=self._since.log if self._since else None,
            )
            self._since = _Since(since, *self._heard(since.timestamps_N))

    def forget(self, user_id: int) -> None:
        """What a user did since the end of the log counts no more."""
        with self._lock:
            self._late.forget(user_id)
            if self._since is None:
                return
            log = self._since.log
            is_kept_N = log.user_ids_N != user_id
            if not is_kept_N.any():
                self._since = None
            elif not is_kept_N.all():
                columns = log.user_ids_N, log.item_ids_N, log.ratings_N, log.timestamps_N
                kept = (column_N[is_kept_N] for column_N in columns)
                since = EventLog(*kept, num_users=log.num_users, num_items=log.num_items, items=log.items)
                self._since = _Since(since, *self._heard(since.timestamps_N))

    def _add_late(self, events: Sequence[LiveEvent]) -> None:
        by_user: dict[int, list[tuple[int, int]]] = {}
        for user, item, _, time in events:
            if user >= 0:
                by_user.setdefault(user, []).append((item, time))
        for user, told in by_user.items():
            known = self._log.events_before(user, self._log.end)
            last = dict(zip(known.item_ids_H.tolist(), known.times_H.tolist(), strict=True))
            # What the log has itself says nothing new; a later time renews that an item was seen.
            if late := [(item, time) for item, time in told if time > last.get(item, -math.inf)]:
                self._late.add({user: late})

    def _heard(self, times_N: Int64s) -> tuple[int, int]:
        """``newest`` and ``unheard_s`` of sorted times that came since."""
        newest, dense = self._newest(times_N), self._dense
        start = self._log.end if len(self._log) else int(times_N[0])
        today = max(newest - 1 - start, 0) // self._day_s
        events = np.diff(times_N.searchsorted(start + self._day_s * np.arange(today + 1)))
        return newest, int((events < dense).sum()) * self._day_s

    def _newest(self, times_N: Int64s) -> int:
        """The second after the newest event that ends a day on which enough came, or after which so many did.

        Not of the last so many the first: on a usual day that is hours ago, and no training sees it so.
        """
        dense, newest = self._dense, self._log.end
        before_N = self._log.timestamps_N[max(len(self._log) - (dense - 1), 0) :]
        all_N = np.concatenate([before_N, times_N])
        took_M = all_N[dense - 1 :] - all_N[: max(len(all_N) - dense + 1, 0)]
        if len(ends_M := np.flatnonzero(took_M < self._day_s)):
            newest = max(newest, int(all_N[ends_M[-1] + dense - 1]) + 1)
        return max(newest, int(times_N[-dense]) + 1) if len(times_N) >= dense else newest

    def with_items(self, items: Items, num_items: int) -> "LiveLog":
        """Over a catalogue that goes on, and not told anything yet; see ``EventLog.with_items``."""
        return LiveLog(self._log.with_items(items, num_items))

    def take_over(self, other: "LiveLog") -> None:
        """Knows what another one of the same log was told, whose catalogue is not longer."""
        if since := other._since:
            self._since = since._replace(log=since.log.with_items(since.log.items, self.num_items))
        self._late = other._late.copy()

    def __len__(self) -> int:
        return len(self._log) + (0 if self._since is None else len(self._since.log))

    @property
    def newest(self) -> int:
        """Of the log, or of what came since: with a tenth of a usual day within a day, the log goes on; a
        handful of events do not make an old one young."""
        return self._log.end if self._since is None else self._since.newest

    @property
    def end(self) -> int:
        """Where time stops, see ``past.heard_until``: days of which nothing was heard are left out."""
        since = self._since
        return self._log.end if since is None else since.newest - since.unheard_s

    def items_before(self, item_ids_K: Int64s, time: int, until: int | None = None) -> Past:
        since = self._since
        if since is None:
            return self._log.items_before(item_ids_K, time, until)
        older_until, newer_until, unheard_s = self._stands(time, until, since)
        past = self._log.items_before(item_ids_K, time, older_until)
        return _both(past, since.log.items_before(item_ids_K, time, newer_until), unheard_s)

    def _stands(self, time: int, until: int | None, since: _Since) -> tuple[int | None, int | None, int]:
        """When the log counts as ended, the same on the clock of what came since, and how long it stood."""
        if until is None:
            return None, None, 0
        until = min(until, max(time - since.unheard_s, self._log.end))
        return until, until + since.unheard_s, since.unheard_s

    def mean_rating_before(self, time: int) -> float:
        total, count = self._log.ratings_before(time)
        if self._since is not None:
            more = self._since.log.ratings_before(time)
            total, count = total + more[0], count + more[1]
        return float(mean(total, count))

    def user_before(self, user_id: int, time: int, until: int | None = None) -> UserPast:
        since = self._since
        if since is None or user_id == -1:
            return self._log.user_before(user_id, time, until)
        until, newer_until, unheard_s = self._stands(time, until, since)
        newer = since.log.user_before(user_id, time, newer_until)
        # Heard of since the log ended: then time goes on for what happened before as well.
        now = int(newer.past.now_K) - unheard_s
        older = self._log.user_before(user_id, time, until if until is None else max(until, now))
        return UserPast(
            np.concatenate([older.item_ids_H, newer.item_ids_H])[-RECENT_EVENTS:],
            np.concatenate([older.ratings_H, newer.ratings_H])[-RECENT_EVENTS:],
            _both(older.past, newer.past, unheard_s),
        )

    def check_user(self, user_id: int) -> None:
        self._log.check_user(user_id)

    def seen_before(self, user_id: int, time: int, since: float = 0) -> Int32s:
        seen_H, late = self.events_before(user_id, time).since(since), self._late.before(user_id, time)
        return seen_H if late is None else np.concatenate([seen_H, late.since(since)])

    def events_before(self, user_id: int, time: int) -> UserEvents:
        older, since = self._log.events_before(user_id, time), self._since
        if since is None or user_id == -1:
            return older
        newer = since.log.events_before(user_id, time)
        if not len(newer.item_ids_H):
            return older
        return UserEvents(
            np.concatenate([older.item_ids_H, newer.item_ids_H]),
            np.concatenate([older.times_H, newer.times_H]),
        )

    def followers_before(self, item_id: int, time: int, item_ids_K: Int64s) -> tuple[Int64s, int]:
        log = self._log
        if self._since is None or time <= log.end:
            return log.followers_before(item_id, time, item_ids_K)
        since = self._since.log
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


def _both(older: Past, newer: Past, unheard_s: int) -> Past:
    """Of the same owners at the same moment, on the clock of the older, which stood for so long."""
    return Past(
        np.add(older.events_K, newer.events_K),
        older.rating_sum_K + newer.rating_sum_K,
        np.fmin(older.first_time_K, newer.first_time_K - unheard_s),
        np.fmax(older.last_time_K, newer.last_time_K - unheard_s),
        lambda days: np.add(older.events_since(days), newer.events_since(days)),
        older.now_K,
    )
