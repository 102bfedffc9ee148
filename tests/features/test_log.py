"""The event log against slow loops over the plain list of events."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.features.items import MAX_GENRES, NO_ITEM_FEATURES, item_features, item_frame
from recray.features.log import FOLLOW_SOURCES, FOLLOW_STEPS, EventLog
from recray.features.past import DAY_S, RECENT_EVENTS, brought_history
from recray.schema import DataError
from tests.features.worlds import (
    NUM_ITEMS,
    NUM_USERS,
    START,
    Event,
    int64,
    interesting_times,
    make_items,
    make_log,
    make_world,
)

WINDOWS_DAYS = (7, 30, 90)
ALL_ITEMS = np.arange(NUM_ITEMS)


@pytest.mark.parametrize("seed", [0, 1])
def test_item_states_match_a_slow_loop(seed: int) -> None:
    world = make_world(seed)
    for time in interesting_times(world):
        state, before = world.log.items_before(ALL_ITEMS, time), world.before(time)
        midnight = time // DAY_S * DAY_S
        for item in range(NUM_ITEMS):
            own = [event for event in before if event.item == item]
            assert state.events_K[item] == len(own)
            assert state.rating_sum_K[item] == sum(event.rating for event in own)
            for days in WINDOWS_DAYS:
                recent = sum(event.time >= midnight - days * DAY_S for event in own)
                assert state.events_since(days)[item] == recent
            if own:
                assert state.first_time_K[item] == min(event.time for event in own)
                assert state.last_time_K[item] == max(event.time for event in own)
            else:
                assert np.isnan([state.first_time_K[item], state.last_time_K[item]]).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_user_states_match_a_slow_loop(seed: int) -> None:
    world = make_world(seed)
    for time in interesting_times(world):
        before, midnight = world.before(time), time // DAY_S * DAY_S
        for user in range(NUM_USERS):
            own = [event for event in before if event.user == user]
            state = world.log.user_before(user, time)
            assert state.item_ids_H.tolist() == [event.item for event in own]
            assert world.log.seen_before(user, time).tolist() == [event.item for event in own]
            events = world.log.events_before(user, time)
            assert events.item_ids_H.tolist() == [event.item for event in own]
            assert events.times_H.tolist() == [event.time for event in own]
            assert state.ratings_H.tolist() == [event.rating for event in own]
            past = state.past
            assert past.events_K == len(own)
            assert past.rating_sum_K == sum(event.rating for event in own)
            for days in WINDOWS_DAYS:
                recent = sum(event.time >= midnight - days * DAY_S for event in own)
                assert past.events_since(days) == recent
            if own:
                assert (past.first_time_K, past.last_time_K) == (own[0].time, own[-1].time)
            else:
                assert np.isnan([past.first_time_K, past.last_time_K]).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_followers_match_a_slow_loop(seed: int) -> None:
    world = make_world(seed, count=400)
    for time in interesting_times(world):
        before = world.before(time)
        rows = {user: [e for e in before if e.user == user] for user in range(NUM_USERS)}
        for item in range(NUM_ITEMS):
            expected = np.zeros(NUM_ITEMS, int)
            for row in rows.values():
                for place, event in enumerate(row):
                    if event.item == item:
                        for follower in row[place + 1 : place + 1 + FOLLOW_STEPS]:
                            expected[follower.item] += 1
            counts_K, occurrences = world.log.followers_before(item, time, ALL_ITEMS)
            assert occurrences == sum(event.item == item for event in before)
            np.testing.assert_array_equal(counts_K, expected)


def test_followers_look_at_the_latest_occurrences_only() -> None:
    """Item 0 was followed by item 1 long ago, by item 2 in the latest occurrences."""
    old = [Event(0, i % 2, 1.0, START + i) for i in range(40)]
    new = [Event(1, 2 * (i % 2), 1.0, START + 10_000 + i) for i in range(2 * FOLLOW_SOURCES)]
    counts_K, occurrences = make_log(old + new).followers_before(0, START + 10**6, ALL_ITEMS)
    assert occurrences == FOLLOW_SOURCES
    assert counts_K[1] == 0 < counts_K[2]


def test_mean_rating_before() -> None:
    world = make_world()
    for time in interesting_times(world):
        ratings = [event.rating for event in world.before(time)]
        mean = world.log.mean_rating_before(time)
        assert np.isnan(mean) if not ratings else mean == pytest.approx(np.mean(ratings), rel=1e-12)


def test_taste_is_read_from_the_latest_events() -> None:
    events = [Event(0, i % NUM_ITEMS, 1.0, START + i) for i in range(RECENT_EVENTS + 30)]
    state = make_log(events).user_before(0, START + 10**6)
    assert state.past.events_K == RECENT_EVENTS + 30
    assert state.item_ids_H.tolist() == [event.item for event in events[30:]]


def test_an_empty_log_knows_nothing() -> None:
    log = make_log([])
    state = log.items_before(ALL_ITEMS, START)
    assert not state.events_K.any()
    assert log.user_before(0, START).past.events_K == 0
    assert log.followers_before(0, START, ALL_ITEMS)[1] == 0
    assert np.isnan(log.mean_rating_before(START))


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    world = make_world()
    world.log.save(tmp_path)
    loaded = EventLog.load(tmp_path)
    assert loaded.events().equals(world.log.events())
    assert (loaded.num_users, loaded.num_items) == (NUM_USERS, NUM_ITEMS)
    assert (
        loaded.columns == world.log.columns == (("genres", "brand", "path"), ("year", "price"), ("created",))
    )
    for name, (places_IW, names) in world.log.items.labels.items():
        assert loaded.items.labels[name].names == names
        np.testing.assert_array_equal(loaded.items.labels[name].places_IW, places_IW)
    for kind, columns in (("numbers", world.log.items.numbers), ("dates", world.log.items.dates)):
        for name, values_I in columns.items():
            np.testing.assert_array_equal(getattr(loaded.items, kind)[name], values_I)


def test_a_bundle_s_own_items_are_kept_and_read(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "raw_id": [f"m{i}" for i in range(NUM_ITEMS)],
            "title": ["t"] * NUM_ITEMS,
            "year": [1999] + [None] * (NUM_ITEMS - 1),
            "genres": [["Drama", "Comedy"], [], None] + [["Drama"]] * (NUM_ITEMS - 3),
        }
    )
    frame.write_parquet(tmp_path / "items.parquet")
    make_world().log.save(tmp_path)
    loaded = EventLog.load(tmp_path)
    genres, years_I = loaded.items.labels["genres"], loaded.items.numbers["year"]
    assert genres.names == ("Comedy", "Drama")
    assert [set(row) for row in genres.places_IW[:4].tolist()] == [{1, 2}, {0}, {0}, {0, 2}]
    assert years_I[0] == 1999
    assert np.isnan(years_I[1:]).all()
    assert pl.read_parquet(tmp_path / "items.parquet").equals(frame)


def test_items_without_side_information_and_with_too_much() -> None:
    plain = item_features(pl.DataFrame({"raw_id": ["a", "b"]}))
    assert plain == NO_ITEM_FEATURES
    assert len(item_frame(plain, 2)) == 2
    many = [f"g{i:03}" for i in range(MAX_GENRES + 5)]
    rich = item_features(pl.DataFrame({"genres": [many, many[5:], many[5:]]}))
    assert rich.labels["genres"].names == tuple(many[5:])
    assert item_features(item_frame(rich, 3)).labels["genres"].names == tuple(many[5:])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0], [0, 1], [1.0], [5]), r"\(1, 2, 1, 1\) entries"),
        (([9], [0], [1.0], [5]), "user id 9 in the log is not in 0..6"),
        (([0], [-1], [1.0], [5]), "item id -1"),
        (([0], [0], [float("nan")], [5]), "rating nan of event 0"),
        (([0, 0], [0, 0], [1e11, 1.0], [5, 6]), "scale them"),
        (([0, 0], [0, 0], [1.0, 1.0], [0, 2**61]), "divide milliseconds by 1000"),
    ],
)
def test_bad_events_are_refused_with_a_way_out(columns: tuple[list[float], ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        EventLog(*columns, num_users=NUM_USERS, num_items=NUM_ITEMS)


def test_other_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'genres' has 12 rows for a log of 3 items"):
        EventLog([], [], [], [], num_users=1, num_items=3, items=item_features(make_items()))
    with pytest.raises(DataError, match="user id 99 is not in the log"):
        make_world().log.user_before(99, START)
    with pytest.raises(DataError, match=r"events\.parquet: missing"):
        EventLog.load(tmp_path)
    make_world().log.save(tmp_path)
    pl.DataFrame({"user_id": [1]}).write_parquet(tmp_path / "events.parquet")
    with pytest.raises(DataError, match="no column 'item_id'"):
        EventLog.load(tmp_path)


def test_explicit_history_leaves_out_what_is_not_older_than_the_request() -> None:
    state = brought_history(int64([4, 5, 6]), int64([START - 5, START - 1, START]), START)
    past = state.past
    assert state.item_ids_H.tolist() == [4, 5]
    assert (past.first_time_K, past.last_time_K, past.events_K) == (START - 5, START - 1, 2)
    assert past.events_since(7) == 2
    assert np.isnan(state.ratings_H).all()
    untimed = brought_history(int64([4, 5, 6])).past
    assert untimed.events_K == 3
    assert np.isnan([untimed.first_time_K, untimed.last_time_K, untimed.events_since(7)]).all()


def test_the_table_of_a_day_says_what_a_look_up_says() -> None:
    """Live traffic: asked after the end of a log of more events than items, on one day and on the next."""
    world = make_world(count=400)
    log = world.log
    for time in (log.end, log.end + DAY_S, log.end, log.end + 40 * DAY_S):
        got = log.items_before(ALL_ITEMS, time)
        expected = log.by_item.past(ALL_ITEMS, log.by_item.starts[1:], time)
        for one, other in zip(got[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(one, other)
        for days in WINDOWS_DAYS:
            np.testing.assert_array_equal(got.events_since(days), expected.events_since(days))
