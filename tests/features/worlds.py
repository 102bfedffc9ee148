"""Small random event logs with many equal timestamps, for the tests of features."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Int64s
from recray.features.items import item_features
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


def make_items(seed: int = 0) -> pl.DataFrame:
    """Genres and years, and columns of a kind that any catalogue may have; some items lack some."""
    rng = np.random.default_rng(seed)
    genres = [[f"genre {g}" for g in range(NUM_GENRES) if rng.random() < 0.4] for _ in range(NUM_ITEMS)]
    genres[0] = []
    many = [[f"a > {n:03}" for n in rng.integers(0, 200, 9)] for _ in range(NUM_ITEMS)]
    days = rng.integers(START // DAY_S - 200, START // DAY_S + DAYS, NUM_ITEMS)
    return pl.DataFrame(
        {
            "raw_id": [f"m{i}" for i in range(NUM_ITEMS)],
            "genres": genres,
            "year": [1950, None, *rng.integers(1950, 2000, NUM_ITEMS - 2).tolist()],
            "brand": [None, *(f"b{n}" for n in rng.integers(0, 3, NUM_ITEMS - 1))],
            "path": [None, *many[1:]],
            "price": [*rng.lognormal(3, 1, NUM_ITEMS - 1).tolist(), None],
            "created": pl.Series([None, *days[1:].tolist()], dtype=pl.Int32).cast(pl.Date),
            "description": ["words that nobody ranks by"] * NUM_ITEMS,
            "in_stock": [n % 2 == 0 for n in range(NUM_ITEMS)],
        }
    )


def make_log(events: list[Event]) -> EventLog:
    columns = list(zip(*events, strict=True)) if events else [(), (), (), ()]
    return EventLog(*columns, num_users=NUM_USERS, num_items=NUM_ITEMS, items=item_features(make_items()))


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
