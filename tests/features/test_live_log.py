"""A log that is told more answers as one that was made with all of it."""

import numpy as np
import pytest

from recray.features.live_log import LiveEvent, LiveLog
from recray.features.past import DAY_S
from recray.features.ranking import RankingQuery, compute
from recray.features.ranking.registry import features_of
from tests.features.worlds import DAYS, NUM_ITEMS, NUM_USERS, START, make_log, make_world

CUT = START + 60 * DAY_S
ACROSS = ("follows_last",)  # pairs that lie across the end of the log are not counted


def told(since_cut: bool = True) -> tuple[LiveLog, int]:
    world = make_world()
    live = LiveLog(make_log(world.before(CUT)))
    later = [e for e in world.events if e.time >= CUT]
    for start in range(0, len(later), 7):  # little by little
        live.add([LiveEvent(*e) for e in later[start : start + 7]])
    return live, max(e.time for e in later) + 1


def test_features_are_those_of_the_whole_log_but_for_pairs_across_its_end() -> None:
    world = make_world()
    live, end = told()
    names = tuple(name for name in features_of(world.log.columns) if name not in ACROSS)
    ids = np.arange(NUM_ITEMS)
    for time in (CUT + 1, CUT + 20 * DAY_S, end, end + 5 * DAY_S):
        for user in range(-1, NUM_USERS):
            query = RankingQuery(
                user, time, ids, np.linspace(1, 2, len(ids), dtype=np.float32), np.ones(len(ids), np.uint8)
            )
            assert compute(live, query, names).tobytes() == compute(world.log, query, names).tobytes()


@pytest.mark.parametrize("user", range(NUM_USERS))
def test_what_a_user_did_goes_on(user: int) -> None:
    world = make_world()
    live, end = told()
    for time in (START, CUT, CUT + 3 * DAY_S, end):
        assert live.seen_before(user, time).tolist() == world.log.seen_before(user, time).tolist()
        got, whole = live.events_before(user, time), world.log.events_before(user, time)
        assert got.times_H.tolist() == whole.times_H.tolist()
    assert len(live) == len(world.log)


def test_events_of_nobody_known_count_for_their_item_alone() -> None:
    world = make_world()
    live = LiveLog(world.log)
    before = live.items_before(np.arange(NUM_ITEMS), world.log.end + 9).events_K
    live.add([LiveEvent(-1, 3, 1.0, world.log.end), LiveEvent(-1, 3, 1.0, world.log.end + 1)])
    after = live.items_before(np.arange(NUM_ITEMS), world.log.end + 9).events_K
    assert (after - before).tolist() == [2 if item == 3 else 0 for item in range(NUM_ITEMS)]
    assert all(
        len(live.seen_before(u, 2**33)) == len(world.log.seen_before(u, 2**33)) for u in range(NUM_USERS)
    )


def test_a_handful_of_events_do_not_make_an_old_log_young() -> None:
    """Ten events a day: one a tenth of a day; the log goes on from the event on that makes it dense."""
    events = [e._replace(time=START + n * DAY_S // 100) for n, e in enumerate(make_world().events[:300] * 20)]
    log = make_log(events)  # 100 a day
    live = LiveLog(log)
    year = log.end + 365 * DAY_S
    live.add([LiveEvent(0, 1, 1.0, year + n) for n in range(9)])
    assert live.end == log.end
    live.add([LiveEvent(0, 1, 1.0, year + 9)])
    assert live.end == year + 1
    live.add([LiveEvent(0, 1, 1.0, year + 10)])
    assert live.end == year + 2
    assert DAYS > 60
