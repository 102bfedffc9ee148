"""Days of an application: lists, features and clicks in its log, by users who like items of their kind."""

from collections.abc import Callable

import numpy as np

from recray import paths
from recray.event_log.records import Drawn, Event, Exposure
from recray.event_log.tables import encoded
from recray.event_log.writer import LogWriter
from tests.pipelines.tiny import NUM_ITEMS, NUM_USERS

BEGIN, DAY_S = 1_700_000_000.0, 86_400.0
Clicks = Callable[
    [np.random.Generator, int, int], bool
]  # of a rank and whether the item is to the user's taste


def by_taste(rng: np.random.Generator, rank: int, liked: int) -> bool:
    return bool(rng.random() < liked / rank)


def at_random(rng: np.random.Generator, rank: int, liked: int) -> bool:
    return bool(rng.random() < 0.2)


def turned_round(rng: np.random.Generator, rank: int, liked: int) -> bool:
    return not by_taste(rng, rank, liked)


def serve_a_day(name: str, day: int, clicks: Clicks) -> float:
    """Each user of an application gets three lists of six, and clicks; returns when the day is over."""
    rng, begin = np.random.default_rng(day), BEGIN + day * DAY_S
    log = LogWriter(paths.events_dir() / name)
    answers, events = [], []
    for n in range(3 * NUM_USERS):
        user, at, request = n % NUM_USERS, begin + 300 * n, f"r{day}-{n}"
        items = rng.choice(NUM_ITEMS, 6, replace=False)
        liked = items % 2 == user % 2
        items = items[np.argsort(~liked, kind="stable")]  # production is good
        features_KF = np.stack([np.arange(6, 0, -1), items % 2], axis=1).astype(np.float32)
        shown = tuple(Drawn(f"i{item}", 1.0, "two_tower") for item in items)
        names = ("retrieval_score", "genre_affinity")
        version = {"ranker": f"{name}@1"}
        exposure = Exposure(
            request, at, f"u{user}", int(at), 6, shown, version, feature_names=names, features_KF=features_KF
        )
        answers.append(encoded(exposure))
        for rank, item in enumerate(items.tolist(), 1):
            if clicks(rng, rank, int(item % 2 == user % 2)):
                when = at + 10 * rank
                events.append(
                    Event(f"u{user}", f"i{item}", 1.0, when, f"{request}-{rank}", "click", request, when)
                )
    log.expose(answers)
    log.record(events)
    log.close()
    return begin + DAY_S
