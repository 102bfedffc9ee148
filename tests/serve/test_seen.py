"""What a user has seen, wherever it is known from, and what becomes of it."""

import random

import numpy as np
import pytest

from recray.features.live_log import LiveEvent, LiveLog
from recray.features.log import EventLog
from recray.serve.query import History, Query
from recray.serve.seen import DAY_S, Seen
from tests.serve.world import NOW, World

NOTHING = np.empty(0, np.int64)
DONE = History(np.array([1, 2, 3, 1]), np.array([NOW - 9 * DAY_S, NOW - 8 * DAY_S, NOW - 7 * DAY_S, NOW - 1]))


def test_of_a_stranger_who_was_told_of() -> None:
    query = Query(-1, None, np.array([7]), NOW, 10, told=DONE)
    assert Seen().removed(query, None).tolist() == [7, 1, 2, 3, 1]
    assert Seen(after_days=7).removed(query, None).tolist() == [7, 3, 1], "seven days ago is not longer ago"
    assert Seen(after_days=6.9).removed(query, None).tolist() == [7, 1], "seen again lately"
    assert Seen(keeps=True).removed(query, None).tolist() == [7]


def test_what_the_request_names_stays_out() -> None:
    query = Query(-1, np.array([5]), np.array([7]), NOW, 10, np.array([NOW - 99 * DAY_S]), told=DONE)
    assert Seen(after_days=1).removed(query, None).tolist() == [7, 5, 1]


def test_of_a_split() -> None:
    query = Query(3, None, NOTHING, NOW, 10, past=DONE)
    assert Seen(after_days=8).removed(query, None).tolist() == [2, 3, 1]


@pytest.mark.parametrize("days", [0.0, 20.0, 1_000.0])
def test_of_a_log(world: World, days: float) -> None:
    log, query = world.log, Query(3, None, NOTHING, NOW, 10)
    own = [
        int(item)
        for user, item, time in zip(log.user_ids_N, log.item_ids_N, log.timestamps_N, strict=True)
        if user == 3 and NOW - days * DAY_S <= time < NOW
    ]
    assert Seen(after_days=days).removed(query, log).tolist() == own
    assert not len(Seen(after_days=days).removed(Query(-1, None, NOTHING, NOW, 10), log))


@pytest.mark.parametrize("seed", range(20))
def test_the_last_time_counts_wherever_it_is_known_from(seed: int) -> None:
    """A version has learnt some events, others are told later in any order, also of before its log ended and
    of items that it knows: what is removed is what an evaluation removes with all of them in its split."""
    rng, num_users, num_items = random.Random(seed), 3, 6
    events = [
        LiveEvent(rng.randrange(num_users), rng.randrange(num_items), 1.0, NOW - rng.randrange(20 * DAY_S))
        for _ in range(60)
    ]
    learnt = sorted(
        (e for e in events if rng.random() < 0.5 and e.time < NOW - 2 * DAY_S), key=lambda e: e.time
    )
    told = [e for e in events if e not in learnt]
    columns = (np.array(column) for column in zip(*learnt, strict=True))
    log = LiveLog(EventLog(*columns, num_users=num_users, num_items=num_items))
    rng.shuffle(told)
    for event in (*told, *rng.sample(learnt, 5)):  # some are sent again
        log.add([event])
    for days in (0.5, 3.0, 9.0, 15.0):
        for user in range(num_users):
            own = [e for e in events if e.user_id == user]
            past = np.array([e.item_id for e in own]), np.array([e.time for e in own])
            rule = Seen(after_days=days)
            served = rule.removed(Query(user, None, NOTHING, NOW, 10), log)
            measured = rule.removed(Query(user, None, NOTHING, NOW, 10, past=History(*past)), None)
            stranger = rule.removed(Query(-1, None, NOTHING, NOW, 10, told=History(*past)), None)
            own_way = {e.item_id for e in own if e.time >= NOW - days * DAY_S}
            assert set(served.tolist()) == set(measured.tolist()) == set(stranger.tolist()) == own_way
