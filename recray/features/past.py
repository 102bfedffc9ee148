"""What was known of users and items strictly before a moment: the one definition, for a query and for rows.

An event happens in a second; it is known from the next second on, so the events of one second know nothing
of each other. Windows begin at midnight UTC. Counts are exact, and so are sums of ratings, whatever the
order of addition: ratings are kept as multiples of ``RATING_STEP``.

Shapes: K owners (users or items), H events of a history, N events of a log.
"""

import copy
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from recray.arrays import Float32s, Float64s, Int32s, Int64s
from recray.ops import look_ups as loops
from recray.schema import DataError

Time = TypeVar("Time", int, Int64s)  # unix seconds: one moment for all, or one for each

DAY_S = 86_400
RATING_STEP = 2.0**-16  # ratings are rounded to it, which makes every sum of them exact
SMOOTHING_EVENTS = 10.0  # a smoothed mean counts as if so many events had the overall mean
WINDOW_DAYS = (7, 30, 90)  # that are known ahead of every item, see ``Order.latest``
SORTED = ("order_N", "ended_keys_N", "starts", "rating_sums_N")
RECENT_EVENTS = 512  # a user's taste is read from at most so many latest events


class Past(NamedTuple):
    """K owners, each strictly before its moment, or one, in plain numbers. What is not known is NaN."""

    events_K: Int64s | Float64s | int
    rating_sum_K: Float64s | float
    first_time_K: Float64s | float  # unix seconds
    last_time_K: Float64s | float
    events_since: Callable[
        [int], Int64s | Float64s | float
    ]  # days -> events since ``midnight`` so many days before
    now_K: Int64s | int  # unix seconds: what waits and windows are counted from, see ``heard_until``

    def days_since(self, time_K: Float64s | Int64s | float) -> Float64s | float:
        """From a moment until now; none where it is later, as a few events are that came since."""
        return np.maximum(self.now_K - time_K, 0) / DAY_S


class UserPast(NamedTuple):
    """One user strictly before a moment."""

    item_ids_H: npt.NDArray[np.integer[Any]]  # the last RECENT_EVENTS items, oldest first
    ratings_H: npt.NDArray[np.floating[Any]]  # NaN where unknown
    past: Past


def midnight(time: Time, days: int) -> Time:
    """When the window of so many days before ``time`` begins, in unix seconds.

    At midnight UTC, so that all requests of a day share their windows.
    """
    return (time // DAY_S - days) * DAY_S


def heard_until(time: int, log_end: int, last_time: float = np.nan) -> int:
    """The moment that waits and windows of a request at ``time`` are counted from.

    A log that ended long ago does not say that nobody came since: time stops where it ends, so that no wait
    grows and no window empties with its age. Of a user from whom something newer was heard time goes on.

    Args:
        log_end: the second after the last event that is known, of anybody.
        last_time: of the user's last event; NaN where there is none.
    """
    return time if last_time >= log_end else min(time, log_end)


def mean(sums_K: Float64s | float, events_K: Int64s | Float64s | int) -> Float64s | float:
    """NaN where there are no events."""
    if isinstance(events_K, int):
        return sums_K / events_K if events_K else float("nan")
    return np.where(events_K, np.divide(sums_K, np.maximum(events_K, 1)), np.nan)


def smoothed_mean(past: Past, prior: Float64s | float) -> Float64s | float:
    """Mean rating, drawn to ``prior`` by ``SMOOTHING_EVENTS`` events' worth."""
    return np.divide(past.rating_sum_K + SMOOTHING_EVENTS * prior, past.events_K + SMOOTHING_EVENTS)


def brought_history(
    item_ids_H: Int64s, times_H: Int64s | None = None, time: int = 0, log_end: int | None = None
) -> UserPast:
    """The past that an explicit history gives, oldest first; what it does not say is NaN.

    With times, entries that are not strictly before ``time`` are left out.

    Args:
        log_end: see ``heard_until``; None: the log reaches to ``time``.
    """
    if times_H is None:
        since = np.nan if len(item_ids_H) else 0.0
        return _brought(item_ids_H, np.nan, np.nan, lambda days: since, time)
    item_ids_H, earlier_H = item_ids_H[times_H < time], times_H[times_H < time]
    first, last = (float(earlier_H.min()), float(earlier_H.max())) if len(earlier_H) else (np.nan, np.nan)
    now = time if log_end is None else heard_until(time, log_end, last)
    return _brought(item_ids_H, first, last, lambda days: int((earlier_H >= midnight(now, days)).sum()), now)


def _brought(
    item_ids_H: Int64s, first: float, last: float, since: Callable[[int], float], now: int
) -> UserPast:
    recent_H, count = item_ids_H[-RECENT_EVENTS:], len(item_ids_H)
    past = Past(count, np.nan if count else 0.0, first, last, since, now)
    return UserPast(recent_H, np.full(len(recent_H), np.nan), past)


class Clock(NamedTuple):
    """Seconds since the first event of a log."""

    origin: int  # unix seconds of the first event
    end: int  # after the last event
    span: int  # owner * span + time is a key that sorts by owner, then by time

    @staticmethod
    def of(times_N: Int64s, num_owners: int) -> "Clock":
        """
        Args:
            times_N: unix seconds, sorted.
            num_owners: the larger of the number of users and of items.
        Raises:
            DataError: owners times seconds do not fit in 63 bits.
        """
        origin = int(times_N[0]) if len(times_N) else 0
        end = int(times_N[-1]) - origin + 1 if len(times_N) else 0
        if (num_owners + 1) * (end + 1) > np.iinfo(np.int64).max:
            raise DataError(
                f"timestamps span {end + 1} s, which times {num_owners} users or items does not fit in "
                "63 bits; timestamps are unix seconds: divide milliseconds by 1000"
            )
        return Clock(origin, end, end + 1)

    def at(self, time: int) -> int:
        """A moment on this clock, clipped to before the first and after the last event."""
        return min(max(int(time) - self.origin, 0), self.end)


class Order:
    """The events of a log sorted by (owner, time), ties in the order in which they came.

    Args:
        nearly_N: positions in the log that are almost in order, ties in the order in which they came: sorting
            is then little more than reading. None: as they lie in the log.

    Attributes:
        order_N: positions in the log.
        keys_N: owner * span + time on the clock.
        ended_keys_N: the same and one more, later than any time.
        starts: one entry per owner and one more: where its events begin.
        rating_sums_N: N + 1 entries, the total before each position.
    """

    def __init__(
        self,
        owner_N: Int32s,
        times_N: Int64s,
        ratings_N: Float32s,
        num_owners: int,
        clock: Clock,
        nearly_N: Int32s | None = None,
    ) -> None:
        keys_N = owner_N.astype(np.int64) * clock.span + (times_N - clock.origin)
        self.clock = clock
        if nearly_N is None:
            self.order_N: Int32s = np.argsort(keys_N, kind="stable").astype(np.int32)
        else:
            self.order_N = nearly_N[np.argsort(keys_N[nearly_N], kind="stable")]
        self.ended_keys_N = np.append(keys_N[self.order_N], np.iinfo(np.int64).max)
        self.keys_N = self.ended_keys_N[:-1]
        self.starts = np.zeros(num_owners + 1, np.int64)
        np.cumsum(np.bincount(owner_N, minlength=num_owners), out=self.starts[1:])
        self.rating_sums_N = running(ratings_N[self.order_N])
        self._latest: tuple[int | None, Float64s] = (None, np.empty(0))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """By name; ``of_arrays`` makes the same of them, without sorting."""
        return {name: getattr(self, name) for name in SORTED}

    @staticmethod
    def of_arrays(arrays: Mapping[str, npt.NDArray[Any]], clock: Clock) -> "Order":
        order = Order.__new__(Order)
        order.clock, order._latest = clock, (None, np.empty(0))
        vars(order).update({name: arrays[name] for name in SORTED})
        order.keys_N = order.ended_keys_N[:-1]
        return order

    def with_owners(self, count: int) -> "Order":
        """The same events; owners without any follow, up to ``count`` of them in all."""
        other = copy.copy(self)
        further = np.full(count + 1 - len(self.starts), self.starts[-1])
        other.starts, other._latest = np.concatenate([self.starts, further]), (None, np.empty(0))
        return other

    def places_before(self, owner_K: Int64s, time_K: Int64s | int) -> Int64s:
        """Where the events of K owners begin that are at a moment (unix seconds) or later."""
        origin, end, span = self.clock
        relative = (
            np.clip(time_K - origin, 0, end) if isinstance(time_K, np.ndarray) else self.clock.at(time_K)
        )
        moment_K = np.broadcast_to(relative, len(owner_K)).astype(np.int64)
        place_K: Int64s = loops.places_before(self.keys_N, self.starts, span, owner_K, moment_K)
        return place_K

    def past(self, owner_K: Int64s, stop_K: Int64s, now_K: Time, sums_N: Float64s | None = None) -> Past:
        """The past of K owners that ends before the places ``stop_K``.

        Args:
            now_K: what windows are counted back from.
            sums_N: instead of ``rating_sums_N``.
        """
        origin, _, span = self.clock
        sums_N = self.rating_sums_N if sums_N is None else sums_N
        events_K, sums_K, first_K, last_K = loops.past(
            self.keys_N, self.starts, span, origin, sums_N, owner_K, stop_K
        )

        @cache
        def events_since(days: int) -> Int64s:
            return stop_K - self.places_before(owner_K, midnight(now_K, days))

        return Past(events_K, sums_K, first_K, last_K, events_since, now_K)

    def latest(self, owner_K: Int64s, now: int) -> Past:
        """The whole past of K owners, out of a table that is made once a day.

        A look-up waits for memory more than for anything else: of each owner all lies side by side.
        """
        day, table = self._latest
        if day != now // DAY_S:
            day, every_I = now // DAY_S, np.arange(len(self.starts) - 1)
            past = self.past(every_I, self.starts[1:], now)
            table = np.stack([*past[:4], *map(past.events_since, WINDOW_DAYS)], axis=1)
            self._latest = day, table  # at once: other threads see the old one or the new one
        columns = np.ascontiguousarray(table.take(owner_K, axis=0).T)
        events_K, sums_K, first_K, last_K, *since = columns
        windows: dict[int, Float64s] = dict(zip(WINDOW_DAYS, since, strict=True))
        return Past(events_K, sums_K, first_K, last_K, windows.__getitem__, now)

    @cached_property
    def before_each_N(self) -> Int64s:
        """Where the past of each event ends, which begins where its owner's events do."""
        is_new = np.append(True, self.keys_N[1:] != self.keys_N[:-1])[: len(self.keys_N)]
        stop_N = np.empty(len(self.keys_N), np.int64)
        stop_N[self.order_N] = np.maximum.accumulate(np.where(is_new, np.arange(len(self.keys_N)), 0))
        return stop_N

    def past_of_each(self, owner_N: Int32s, times_N: Int64s, ratings_N: npt.NDArray[Any] | None) -> Past:
        """The past of the owner of each event, strictly before it.

        Args:
            owner_N, times_N: what the order was made of.
            ratings_N: instead of the ratings it was made of.
        """
        sums_N = None if ratings_N is None else running(ratings_N[self.order_N])
        return self.past(owner_N.astype(np.int64), self.before_each_N, times_N, sums_N)


def running(values_N: npt.NDArray[Any]) -> Float64s:
    """N + 1 entries: the total before each position. Exact for ratings: see RATING_STEP."""
    return np.append(0.0, np.cumsum(values_N, dtype=np.float64))
