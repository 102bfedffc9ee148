"""Training queries against a slow loop over the plain list of events."""

import numpy as np
import pytest

from recray.features.past import DAY_S
from recray.features.queries import day_queries
from recray.schema import DataError
from tests.features.worlds import DAYS, NUM_USERS, START, make_world

STOP = START + 90 * DAY_S


def test_each_user_s_day_asks_once_before_its_first_event() -> None:
    world = make_world(count=300)
    begin = START + 30 * DAY_S
    queries, targets = day_queries(world.log, begin, STOP)
    expected = {}
    for user in range(NUM_USERS):
        own = [event for event in world.events if event.user == user]
        days: dict[int, int] = {}
        for event in own:
            if begin <= event.time < STOP:
                days.setdefault(event.time // DAY_S, event.time)
        for time in days.values():
            history = [event for event in own if event.time < time]
            seen = {event.item for event in history}
            later = [e.item for e in own if time <= e.time < STOP and e.item not in seen]
            if later:
                expected[user, time] = (history, list(dict.fromkeys(later)))
    keys = list(zip(queries.user_ids_B.tolist(), queries.request_times_B.tolist(), strict=True))
    assert sorted(keys) == sorted(expected)
    assert queries.request_times_B.tolist() == sorted(queries.request_times_B.tolist())
    for b, key in enumerate(keys):
        history, wanted = expected[key]
        assert queries.history.row(b).tolist() == [event.item for event in history]
        first, last = queries.history.offsets_B[b : b + 2].tolist()
        assert queries.history_times_N[first:last].tolist() == [event.time for event in history]
        assert targets.row(b).tolist() == wanted


def test_only_the_users_asked_for_and_at_most_so_many_queries() -> None:
    world = make_world(count=300)
    users_U = np.arange(NUM_USERS) % 2 == 0
    queries = day_queries(world.log, START, STOP, users_U=users_U).queries
    assert set(queries.user_ids_B.tolist()) <= {0, 2, 4}
    few = day_queries(world.log, START, STOP, max_queries=5, seed=3).queries
    again = day_queries(world.log, START, STOP, max_queries=5, seed=3).queries
    assert 0 < len(few.user_ids_B) <= 5
    assert few.request_times_B.tolist() == again.request_times_B.tolist()


def test_an_empty_window_is_an_error() -> None:
    late = START + (DAYS + 1) * DAY_S
    with pytest.raises(DataError, match="widen the window"):
        day_queries(make_world().log, late, late + DAY_S)
