"""Every leak in events, planted and found with its number; and none where there is none."""

import datetime

import numpy as np
import polars as pl
import pytest

from recray.arrays import Bools, Int64s
from recray.monitor.event_leaks import (
    Events,
    copied_events,
    counts_ahead,
    dated_afterwards,
    later_training,
    repeated_last,
    sorted_ties,
)
from recray.monitor.leaks import seconds_of

NUM_USERS, NUM_ITEMS, EACH = 80, 60, 10
DAY_S = 86_400
START_S = 1_700_000_000


def events(seed: int = 0, *, tied: int = 1) -> Events:
    """Every user's events in order, ``tied`` of them at each moment."""
    rng = np.random.default_rng(seed)
    users_N = np.repeat(np.arange(NUM_USERS), EACH)
    steps_N = np.tile(np.arange(EACH) // tied, NUM_USERS)
    return Events(
        users_N,
        rng.choice(
            NUM_ITEMS, len(users_N), p=np.arange(NUM_ITEMS, 0, -1) / (NUM_ITEMS * (NUM_ITEMS + 1) / 2)
        ),
        START_S + steps_N * 10 * DAY_S + rng.integers(0, DAY_S, NUM_USERS)[users_N],
        [f"user{n}" for n in range(NUM_USERS)],
        [str(n) for n in range(NUM_ITEMS)],
    )


def last(made: Events) -> Bools:
    """The last event of each user."""
    last_N: Bools = np.r_[np.diff(made.user_ids_N) != 0, True]
    return last_N


def counts(ids: Int64s, size: int = NUM_ITEMS) -> Int64s:
    return np.bincount(ids, minlength=size)


def test_a_split_by_chance_is_told_from_one_by_time() -> None:
    made = events()
    assert later_training(made, ~last(made), last(made)) is None
    test_N = np.random.default_rng(1).random(len(made.user_ids_N)) < 0.1
    leak = later_training(made, ~test_N, test_N)
    assert leak is not None
    rows = np.flatnonzero(test_N)
    ends = [made.timestamps_N[(made.user_ids_N == made.user_ids_N[n]) & ~test_N].max(initial=0) for n in rows]
    assert leak.number == pytest.approx(np.mean(made.timestamps_N[rows] < ends))
    assert leak.number > 0.8
    assert "user 'user" in leak.examples[0]


@pytest.mark.parametrize("falling", [False, True])
def test_ties_in_the_order_of_their_ids(falling: bool) -> None:
    made = events(tied=5)
    assert sorted_ties(made) is None
    key = -made.item_ids_N if falling else made.item_ids_N
    by_id = made.item_ids_N[np.lexsort((key, made.timestamps_N, made.user_ids_N))]
    leak = sorted_ties(made._replace(item_ids_N=by_id))
    assert leak is not None
    assert leak.number == 1.0
    assert sorted_ties(events()) is None  # nothing is tied


def test_ids_that_are_numbers_are_ordered_as_numbers() -> None:
    made = events(tied=5)
    as_text = np.argsort(np.argsort(made.items))  # 1, 10, 11, 2...
    by_text = made.item_ids_N[np.lexsort((as_text[made.item_ids_N], made.timestamps_N, made.user_ids_N))]
    assert sorted_ties(made._replace(item_ids_N=by_text)) is None
    names = [f"sku{item}" for item in made.items]
    assert sorted_ties(made._replace(item_ids_N=by_text, items=names)) is not None


def test_a_last_item_that_is_repeated() -> None:
    made = events()
    test_N = last(made)
    assert repeated_last(made, ~test_N, test_N) is None
    copied_U = np.random.default_rng(2).random(NUM_USERS) < 0.75
    items_N = made.item_ids_N.copy()
    rows = np.flatnonzero(test_N)[copied_U]
    items_N[rows] = items_N[rows - 1]
    leak = repeated_last(made._replace(item_ids_N=items_N), ~test_N, test_N)
    assert leak is not None
    repeats = items_N[test_N] == items_N[np.flatnonzero(test_N) - 1]
    assert leak.number == pytest.approx(repeats.mean())


def test_test_events_that_training_holds() -> None:
    made = events()
    test_N = last(made)
    assert copied_events(made, ~test_N, test_N, timed=True) is None
    rows = np.flatnonzero(test_N)[:8]
    twice = np.concatenate([np.arange(len(test_N)), rows])
    doubled = made._replace(
        user_ids_N=made.user_ids_N[twice],
        item_ids_N=made.item_ids_N[twice],
        timestamps_N=made.timestamps_N[twice],
    )
    train_N, test_N = np.r_[~test_N, np.ones(8, bool)], np.r_[test_N, np.zeros(8, bool)]
    leak = copied_events(doubled, train_N, test_N, timed=True)
    assert leak is not None
    assert leak.number == pytest.approx(8 / NUM_USERS)
    assert leak.examples[0].startswith("user 'user0', item ")
    untimed = copied_events(
        doubled._replace(timestamps_N=np.arange(len(train_N))), train_N, test_N, timed=False
    )
    assert untimed is not None
    assert untimed.number >= leak.number


@pytest.mark.parametrize("kind", ["date", "moment", "text", "text with time"])
def test_dates_from_after_the_first_event(kind: str) -> None:
    made = events()
    first_I = np.full(NUM_ITEMS, START_S + 10_000 * DAY_S)
    np.minimum.at(first_I, made.item_ids_N, made.timestamps_N)

    def column(seconds_I: Int64s) -> pl.Series:
        moments = [datetime.datetime.fromtimestamp(int(s), datetime.UTC) for s in seconds_I]
        if kind == "moment":
            return pl.Series([m.replace(tzinfo=None) for m in moments])
        if kind == "date":
            return pl.Series([m.date() for m in moments])
        return pl.Series(
            [f"{m:%Y-%m-%dT%H:%M:%SZ}" if kind == "text with time" else f"{m.date()}" for m in moments]
        )

    table = pl.DataFrame({"raw_id": made.items, "created": column(first_I - 3 * DAY_S), "price": 1.0})
    assert dated_afterwards("item", table, made.item_ids_N, made.timestamps_N) == []
    same_day = table.with_columns(created=column(first_I))
    assert dated_afterwards("item", same_day, made.item_ids_N, made.timestamps_N) == []
    planted_I = first_I + np.where(np.arange(NUM_ITEMS) < 30, 40 * DAY_S, -DAY_S)
    table = table.with_columns(last_sold=column(planted_I))
    [leak] = dated_afterwards("item", table, made.item_ids_N, made.timestamps_N)
    assert "last_sold" in leak.text
    seen_I = counts(made.item_ids_N) > 0
    assert leak.number == pytest.approx(30 / seen_I.sum(), abs=0.02)
    assert leak.examples[0].startswith("item '0': ")


def test_moments_are_read_with_their_zones() -> None:
    told = ["2024-03-31T10:00:00+02:00", "2024-03-31 10:00:30Z", "2024-03-31T09:05", "2024-03-31T10:00-05:30"]
    slow = [datetime.datetime.fromisoformat(each) for each in told]
    expected = [(each if each.tzinfo else each.replace(tzinfo=datetime.UTC)).timestamp() for each in slow]
    found = seconds_of(pl.Series("made", [*told, "2024-03-31", None]))
    assert found is not None
    midnight = datetime.datetime(2024, 3, 31, tzinfo=datetime.UTC).timestamp()
    assert found[:5].tolist() == [*expected, midnight]
    assert np.isnan(found[5])
    assert seconds_of(pl.Series("made", ["2024-03-31", "soon"])) is None


def test_numbers_that_count_what_is_still_to_come() -> None:
    rng = np.random.default_rng(3)
    quality_I = rng.gamma(1.0, 1.0, 400)
    past_I, future_I = rng.poisson(30 * quality_I) + 1, rng.poisson(20 * quality_I * rng.gamma(2, 0.5, 400))
    table = pl.DataFrame(
        {
            "raw_id": [f"i{n}" for n in range(400)],
            "price": rng.normal(size=400),
            "quality": quality_I,  # worth knowing, and known
            "sold_before": past_I,
            "title": "x",
            "year": rng.integers(1950, 2000, 400),
        }
    )
    assert counts_ahead("item", table, past_I, future_I) == []
    missing = pl.Series(future_I).replace({0: None}).cast(pl.Float64)
    planted = table.with_columns(sold=past_I + future_I, sold_later=missing)
    found = counts_ahead("item", planted, past_I, future_I)
    assert [leak.text.split()[1] for leak in found] == ["sold", "sold_later"]
    assert all(leak.number > 0.9 for leak in found)
    assert "past and" in found[0].examples[0]
