"""Time stops where a log ends: against logs that do end there, and against the clock going on."""

from dataclasses import replace

import numpy as np
import pytest

from recray.features.log_until import LogUntil
from recray.features.past import DAY_S, brought_history, heard_until
from recray.features.ranking import FEATURES, RankingQuery, compute
from recray.features.ranking.registry import features_of
from tests.features.worlds import NUM_ITEMS, START, int64, make_log, make_world

END = START + 80 * DAY_S
LATER = (1, 3_600, DAY_S, 7 * DAY_S, 400 * DAY_S, 20_000 * DAY_S)
OF_THE_REQUEST = ("hour_of_day", "day_of_week")


def query_of(user: int, time: int) -> RankingQuery:
    ids = np.arange(NUM_ITEMS)
    return RankingQuery(
        user, time, ids, np.linspace(0, 1, len(ids), dtype=np.float32), np.ones(len(ids), np.uint8)
    )


@pytest.mark.parametrize("user", range(-1, 7))
def test_a_log_that_ended_gives_the_features_of_its_end_however_late_it_is_asked(user: int) -> None:
    world = make_world()
    names = tuple(name for name in features_of(world.log.columns) if name not in OF_THE_REQUEST)
    assert len(names) > len(FEATURES) - len(OF_THE_REQUEST)
    ended = make_log(world.before(END))
    cut = LogUntil(world.log, END)
    then = compute(world.log, query_of(user, END), names)
    for later in LATER:
        asked = replace(query_of(user, END + later), known_until=END)
        assert compute(cut, asked, names).tobytes() == compute(ended, asked, names).tobytes()
        now = compute(cut, asked, names)
        dated = names.index("item_age_created")  # an item that came since is new, not unknown
        same = [f for f in range(len(names)) if f != dated]
        assert now[:, same].tobytes() == then[:, same].tobytes()
        fresh = np.isnan(then[:, dated]) & ~np.isnan(now[:, dated])
        assert (now[fresh, dated] == 0).all()
        known = ~np.isnan(then[:, dated])
        assert now[known, dated].tobytes() == then[known, dated].tobytes()


def test_hours_and_days_of_the_week_are_those_of_the_request() -> None:
    world = make_world()
    asked = replace(query_of(0, END + 5 * DAY_S + 3 * 3_600), known_until=END)
    assert (
        compute(world.log, asked, OF_THE_REQUEST).tobytes()
        == compute(world.log, replace(asked, known_until=None), OF_THE_REQUEST).tobytes()
    )


def test_of_a_user_heard_of_since_time_goes_on() -> None:
    """Its own events are newer than the others': its waits are those of the request, its items' are not."""
    world = make_world()
    user = next(e.user for e in world.events if e.time >= END)
    time = max(e.time for e in world.events if e.user == user) + 3 * DAY_S
    names = ("user_days_since_last", "user_events_7d", "item_days_since_last")
    on, stopped = (
        compute(world.log, replace(query_of(user, time), known_until=until), names) for until in (None, END)
    )
    assert on[:, :2].tobytes() == stopped[:, :2].tobytes()
    assert on[0, 0] == pytest.approx(3.0)
    both = ~np.isnan(stopped[:, 2])
    assert both.any()
    assert (stopped[both, 2] < on[both, 2]).all()
    assert (stopped[both, 2] >= 0).all()


def test_a_history_that_is_brought_counts_likewise() -> None:
    ids, old, new = int64([1, 2]), int64([END - 50, END - 40]), int64([END - 50, END + 10])
    assert brought_history(ids, old, END + DAY_S, END).past.now_K == END
    assert brought_history(ids, new, END + DAY_S, END).past.now_K == END + DAY_S
    assert brought_history(ids, old, END + DAY_S).past.now_K == END + DAY_S


def test_when_time_stops() -> None:
    assert heard_until(END + 9, END) == END
    assert heard_until(END - 9, END) == END - 9
    assert heard_until(END + 9, END, END - 1) == END
    assert heard_until(END + 9, END, END) == END + 9
