"""A log that is told more answers as one that was made with all of it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from recray.features.live_log import LiveEvent, LiveLog
from recray.features.log import MAX_RATING_SUM, EventLog
from recray.features.past import DAY_S
from recray.features.ranking import RankingQuery, compute
from recray.features.ranking.registry import features_of
from recray.schema import DataError
from tests.features.worlds import DAYS, NUM_ITEMS, NUM_USERS, START, make_log, make_world

CUT = START + 60 * DAY_S


def told(since_cut: bool = True) -> tuple[LiveLog, int]:
    world = make_world()
    live = LiveLog(make_log(world.before(CUT)))
    later = [e for e in world.events if e.time >= CUT]
    for start in range(0, len(later), 7):  # little by little
        live.add([LiveEvent(*e) for e in later[start : start + 7]])
    return live, max(e.time for e in later) + 1


def test_features_are_those_of_the_whole_log() -> None:
    world = make_world()
    live, end = told()
    names = tuple(features_of(world.log.columns))
    assert "follows_last" in names
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


@pytest.mark.parametrize("cut_days", [0.5, 3, 60])
def test_what_came_next_is_counted_across_the_end_of_the_log(cut_days: float) -> None:
    """Also where the log has more occurrences than are looked at, of which the latest lie behind its end."""
    rng, every = np.random.default_rng(1), np.arange(6)
    times = np.sort(rng.integers(START, START + 5 * DAY_S, 3_000))
    events = [LiveEvent(int(rng.integers(9)), int(rng.integers(6)), 1.0, int(time)) for time in times]
    cut = START + int(cut_days * DAY_S)

    def made(events: list[LiveEvent]) -> EventLog:
        return EventLog(*np.array(events, np.float64).reshape(-1, 4).T, num_users=9, num_items=6)

    whole, live = made(events), LiveLog(made([e for e in events if e.time < cut]))
    live.add(events)
    for time in (cut, cut + 100, cut + DAY_S // 2, whole.end):
        for item in every.tolist():
            expected, looked_at = whole.followers_before(item, time, every)
            counts, occurrences = live.followers_before(item, time, every)
            assert (counts.tolist(), occurrences) == (expected.tolist(), looked_at)


def test_what_several_strangers_did_is_not_taken_for_what_one_did_next() -> None:
    live = LiveLog(make_world().log)
    end = live.end
    before = live.followers_before(3, end + 9, np.arange(NUM_ITEMS))
    live.add([LiveEvent(-1, 3, 1.0, end + n) for n in range(4)] + [LiveEvent(-1, 4, 1.0, end + 5)])
    after = live.followers_before(3, end + 9, np.arange(NUM_ITEMS))
    assert (after[0].tolist(), after[1]) == (before[0].tolist(), before[1])


def test_a_log_made_longer_is_the_one_that_is_made_of_all_at_once() -> None:
    """Some come late, several in one second."""
    rng = np.random.default_rng(0)
    columns = rng.integers(0, (40, 30, 5, 500), (2_000, 4)).astype(np.float64).T
    grown: EventLog | None = None
    bounds = [0, *np.sort(rng.integers(0, 2_000, 40)).tolist(), 2_000]
    for start, stop in pairwise(bounds):
        grown = EventLog(*columns[:, start:stop], num_users=40, num_items=30, after=grown)
    assert grown is not None
    whole = EventLog(*columns, num_users=40, num_items=30)
    for one, other in ((grown, whole), (grown.by_item, whole.by_item), (grown.by_user, whole.by_user)):
        for name, value in vars(other).items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(getattr(one, name), value), name
                assert getattr(one, name).dtype == value.dtype, name


def test_a_handful_of_events_do_not_make_an_old_log_young() -> None:
    """Ten events a day: one a tenth of a day; the log goes on from the event on that makes it dense."""
    events = [e._replace(time=START + n * DAY_S // 100) for n, e in enumerate(make_world().events[:300] * 20)]
    log = make_log(events)  # 100 a day
    live = LiveLog(log)
    year = log.end + 365 * DAY_S
    live.add([LiveEvent(0, 1, 1.0, year + n) for n in range(9)])
    assert live.end == log.end
    live.add([LiveEvent(0, 1, 1.0, year + 9)])
    assert live.newest == year + 10
    live.add([LiveEvent(0, 1, 1.0, year + 10)])
    assert live.newest == year + 11
    live.add([LiveEvent(0, 1, 1.0, year + 2 * DAY_S)])  # the only one of its day
    assert live.newest == year + 11
    assert DAYS > 60
    # Of the year nothing was heard: it does not count, and one day at most has gone by.
    assert log.end <= live.end <= log.end + DAY_S


def test_a_log_that_goes_on_ends_with_its_newest_event() -> None:
    """As a training sees it: not a tenth of a day before, from the first event on."""
    events = [e._replace(time=START + n * DAY_S // 100) for n, e in enumerate(make_world().events[:300])]
    live = LiveLog(make_log(events[:200]))
    for event in events[200:]:
        live.add([LiveEvent(*event)])
        assert (live.newest, live.end) == (event.time + 1, event.time + 1)


def test_days_of_which_nothing_was_heard_do_not_count() -> None:
    """A log that ended 60 weeks before anybody was listened to again knows what one without the gap knows."""
    world, gap_s = make_world(), 60 * 7 * DAY_S  # events are so few that fifteen days count as one
    later = [LiveEvent(*e) for e in world.events if e.time >= CUT]
    live, gapped = LiveLog(make_log(world.before(CUT))), LiveLog(make_log(world.before(CUT)))
    live.add(later)
    gapped.add([e._replace(time=e.time + gap_s) for e in later])
    assert gapped.newest == live.newest + gap_s
    assert gapped.end == live.end
    # How old an item is goes by the calendar.
    names = tuple(name for name in features_of(world.log.columns) if not name.startswith("item_age"))
    ids, ones = np.arange(NUM_ITEMS), np.ones(NUM_ITEMS, np.float32)
    for time in (CUT + 20 * DAY_S, live.newest, live.newest + 5 * DAY_S):
        for user in range(-1, NUM_USERS):
            query = RankingQuery(user, time, ids, ones, ones.astype(np.uint8), known_until=live.end)
            after = replace(query, time=time + gap_s)
            assert compute(gapped, after, names).tobytes() == compute(live, query, names).tobytes()
        assert gapped.seen_before(0, time + gap_s).tolist() == live.seen_before(0, time).tolist()


def test_what_cannot_be_added_up_is_not_taken_and_nothing_after_it_is_lost() -> None:
    world = make_world()
    live = LiveLog(world.log)
    with pytest.raises(DataError, match="ratings sum to more"):
        live.add([LiveEvent(0, 1, MAX_RATING_SUM, world.log.end) for _ in range(2)])
    live.add([LiveEvent(0, 3, 1.0, world.log.end)])
    assert len(live) == len(world.log) + 1
    assert live.seen_before(0, world.log.end + 1)[-1] == 3


def test_what_comes_too_late_for_the_log_is_seen_and_changes_nothing_else() -> None:
    world = make_world()
    user, end, every = 2, world.log.end, np.arange(NUM_ITEMS)
    events = [e for e in world.events if not (e.user == 3 and e.item == 5)]
    live, known = LiveLog(make_log(events)), {e.item for e in events if e.user == user}
    told = [LiveEvent(user, item, 1.0, end - 50) for item in known] + [LiveEvent(3, 5, 1.0, end - 50)]
    before = live.user_before(3, end), live.items_before(every, end).events_K.tolist()
    live.add([*told, LiveEvent(-1, 5, 1.0, end - 50)])
    assert set(live.seen_before(user, end).tolist()) == known
    assert set(live.seen_before(user, end, end - 50).tolist()) == known  # seen again
    lately = {e.item for e in events if e.user == user and e.time >= end - 49}
    assert set(live.seen_before(user, end, end - 49).tolist()) == lately
    learnt = [LiveEvent(*e) for e in events]
    live.add(learnt)  # told of what it has learnt, it knows no more
    assert len(live.seen_before(4, end)) == len([e for e in events if e.user == 4])
    assert 5 in live.seen_before(3, end - 49)
    assert 5 not in live.seen_before(3, end - 50)
    after = live.user_before(3, end), live.items_before(every, end).events_K.tolist()
    assert (after[0].item_ids_H.tolist(), after[1]) == (before[0].item_ids_H.tolist(), before[1])


@pytest.mark.parametrize("user", [0, 3])
def test_what_is_forgotten_of_a_user_was_never_told(user: int) -> None:
    """Both what came since the end of the log and what came too late for it."""
    world = make_world()
    later = [LiveEvent(*e) for e in world.events if e.time >= CUT]
    late = LiveEvent(user, 2, 1.0, CUT - DAY_S)
    live, other = (LiveLog(make_log(world.before(CUT))) for _ in range(2))
    live.add([*later, late])
    live.forget(user)
    other.add([one for one in later if one.user_id != user])
    ids = np.arange(NUM_ITEMS)
    assert len(live) == len(other)
    assert (live.end, live.newest) == (other.end, other.newest)
    for who in range(NUM_USERS):
        assert live.seen_before(who, 2**33).tolist() == other.seen_before(who, 2**33).tolist()
    query = RankingQuery(
        user, live.newest + 1, ids, np.ones(len(ids), np.float32), np.ones(len(ids), np.uint8)
    )
    names = tuple(features_of(world.log.columns))
    assert compute(live, query, names).tobytes() == compute(other, query, names).tobytes()
