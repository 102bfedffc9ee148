"""Small random event logs with many equal timestamps, for the tests of features."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recray.arrays import Int64s
from recray.features.items import Items
from recray.features.log import EventLog
from recray.features.past import DAY_S

NUM_USERS, NUM_ITEMS, NUM_GENRES = 7, 12, 4
START = 950_000_000  # unix seconds, not a midnight
DAYS = 120


class Event(NamedTuple):
    user: int
    item: int
    rating: float
    time: int


@dataclass(frozen=True)
class World:
    """A log and the plain list of events that it was built from, oldest first, ties as given."""

    log: EventLog
    events: list[Event]

    def before(self, time: int) -> list[Event]:
        return [event for event in self.events if event.time < time]


def make_items(seed: int = 0) -> Items:
    rng = np.random.default_rng(seed)
    genres_IG = (rng.random((NUM_ITEMS, NUM_GENRES)) < 0.4).astype(np.float32)
    genres_IG[0] = 0.0  # an item without genres
    years_I = rng.integers(1950, 2000, NUM_ITEMS).astype(np.float32)
    years_I[1] = np.nan
    return Items(genres_IG, years_I, tuple(f"genre {g}" for g in range(NUM_GENRES)))


def make_log(events: list[Event]) -> EventLog:
    columns = list(zip(*events, strict=True)) if events else [(), (), (), ()]
    return EventLog(*columns, num_users=NUM_USERS, num_items=NUM_ITEMS, items=make_items())


def make_world(seed: int = 0, count: int = 150) -> World:
    """Few moments, so that most timestamps tie; one item and one user without events."""
    rng = np.random.default_rng(seed)
    moments = START + rng.integers(0, DAYS * DAY_S, max(count // 3, 1))
    events = [
        Event(
            int(rng.integers(0, NUM_USERS - 1)),
            int(rng.integers(0, NUM_ITEMS - 1)),
            float(rng.integers(1, 11)) / 2,
            int(rng.choice(moments)),
        )
        for _ in range(count)
    ]
    return World(make_log(events), sorted(events, key=lambda event: event.time))


def interesting_times(world: World) -> list[int]:
    """Before all events, at events, just after one, between, and after all."""
    times = [event.time for event in world.events]
    return [
        START - 5,
        times[0],
        times[40],
        times[40] + 1,
        times[100],
        times[-1],
        times[-1] + 1,
        times[-1] + 10**7,
    ]


def int64(values: list[int]) -> Int64s:
    return np.array(values, np.int64)
