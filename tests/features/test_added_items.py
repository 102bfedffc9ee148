"""A log whose catalogue goes on answers as one that was made of the whole catalogue."""

import datetime

import numpy as np
import polars as pl
import pytest

from recray.features.added_items import with_rows
from recray.features.columns import labels
from recray.features.items import GENRES, MAX_GENRES, item_features
from recray.features.live_log import LiveEvent, LiveLog
from recray.features.log import EventLog
from recray.features.ranking import RankingQuery, chosen, compute

NUM_USERS, NUM_ITEMS, ADDED = 20, 80, 3
START = 1_600_000_000


def table() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    num = NUM_ITEMS + ADDED
    return pl.DataFrame(
        {
            "raw_id": [f"i{n}" for n in range(num)],
            "genres": [
                rng.choice(["war", "drama", "noir"], n % 3, replace=False).tolist() for n in range(num)
            ],
            "brand": [f"b{n}" for n in rng.integers(0, 9, num)],
            "year": rng.integers(1950, 2020, num),
            "price": [None if n % 7 == 0 else float(n) for n in range(num)],
            "made": [
                datetime.date(2020, 1, 1) + datetime.timedelta(int(n)) for n in rng.integers(0, 90, num)
            ],
        },
        schema_overrides={"genres": pl.List(pl.String)},
    )


def log_of(items: pl.DataFrame) -> EventLog:
    rng = np.random.default_rng(0)
    return EventLog(
        rng.integers(0, NUM_USERS, 900),
        rng.integers(0, NUM_ITEMS, 900),
        rng.integers(1, 6, 900),
        START + rng.integers(0, 10**7, 900),
        num_users=NUM_USERS,
        num_items=len(items),
        items=item_features(items),
    )


@pytest.fixture(scope="module")
def whole() -> EventLog:
    return log_of(table())


@pytest.fixture(scope="module")
def extended() -> EventLog:
    """Item 5 said something else before; the last ones were not known."""
    before = table().head(NUM_ITEMS)
    other = before[[6]].with_columns(raw_id=pl.lit("i5"))
    log = log_of(pl.concat([before.head(5), other, before.slice(6)]))
    rows_M = np.array([NUM_ITEMS + 1, 5, NUM_ITEMS, NUM_ITEMS + 2])
    items = with_rows(log.items, NUM_ITEMS + ADDED, rows_M, table()[rows_M])
    return log.with_items(items, NUM_ITEMS + ADDED)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("time", [START + 10**6, START + 2 * 10**7])
def test_every_feature_is_that_of_a_log_of_the_whole_catalogue(
    whole: EventLog, extended: EventLog, live: bool, time: int
) -> None:
    names = chosen((), whole.columns)
    assert {"brand_affinity", "item_price", "price_vs_user", "item_age_made", "genre_overlap_last"} < set(
        names
    )
    ids_K = np.random.default_rng(1).permutation(NUM_ITEMS + ADDED)
    scores_K, sources_K = np.linspace(0, 1, len(ids_K), dtype=np.float32), np.ones(len(ids_K), np.uint8)
    told = [
        LiveEvent(3, NUM_ITEMS + 1, 4.0, START + 10**7 + 5),
        LiveEvent(-1, NUM_ITEMS, 5.0, START + 10**7 + 9),
        LiveEvent(3, 5, 1.0, START + 10**7 + 12),
    ]
    logs = [LiveLog(log) for log in (whole, extended)] if live else [whole, extended]
    for log in logs:
        if isinstance(log, LiveLog):
            log.add(told)
    for user in (0, 3, -1):
        for history in (None, np.array([NUM_ITEMS + 2, 4, 5])):
            query = RankingQuery(user, time, ids_K, scores_K, sources_K, history)
            np.testing.assert_array_equal(*(compute(log, query, names) for log in logs))


def test_the_log_before_knows_nothing_of_it() -> None:
    log = log_of(table().head(NUM_ITEMS))
    rows_M = np.arange(NUM_ITEMS, NUM_ITEMS + ADDED)
    longer = log.with_items(
        with_rows(log.items, NUM_ITEMS + ADDED, rows_M, table()[rows_M]), NUM_ITEMS + ADDED
    )
    assert (log.num_items, longer.num_items) == (NUM_ITEMS, NUM_ITEMS + ADDED)
    assert len(log.by_item.starts) == NUM_ITEMS + 1
    assert longer.items_before(rows_M, START + 10**8).events_K.tolist() == [0, 0, 0]
    assert longer.user_ids_N is log.user_ids_N


def test_what_was_told_is_known_over_the_longer_catalogue() -> None:
    log = LiveLog(log_of(table().head(NUM_ITEMS)))
    log.add([LiveEvent(3, 7, 4.0, START + 10**7 + 5)])
    rows_M = np.arange(NUM_ITEMS, NUM_ITEMS + ADDED)
    items = with_rows(log.items, NUM_ITEMS + ADDED, rows_M, table()[rows_M])
    longer = log.with_items(items, NUM_ITEMS + ADDED)
    assert len(longer) == len(log) - 1
    longer.take_over(log)
    longer.add([LiveEvent(3, NUM_ITEMS, 4.0, START + 10**7 + 8)])
    assert longer.seen_before(3, START + 10**8)[-2:].tolist() == [7, NUM_ITEMS]
    assert log.seen_before(3, START + 10**8)[-1] == 7
    assert longer.followers_before(NUM_ITEMS, START + 10**8, np.array([7]))[0].tolist() == [0]


def test_labels_that_nothing_had_before_count_and_genres_stay_few() -> None:
    names = [f"g{n:02}" for n in range(MAX_GENRES)]
    before = pl.DataFrame(
        {"raw_id": names, GENRES: [[n] for n in names], "brand": ["a", "b"] * (MAX_GENRES // 2)}
    )
    more = pl.DataFrame({"raw_id": ["x", "y"], GENRES: [["new", "g03"], ["g01"]], "brand": ["c", "c"]})
    rows_M = np.array([MAX_GENRES, MAX_GENRES + 1])
    items = with_rows(item_features(before), MAX_GENRES + 2, rows_M, more)
    assert "new" not in items.labels[GENRES].names
    assert (items.labels[GENRES].places_IW[rows_M] > 0).sum(axis=1).tolist() == [1, 1]
    assert items.labels["brand"].names == ("a", "b", "c")
    assert items.labels["brand"].places_IW[rows_M].tolist() == [[3], [3]]


def test_what_single_precision_cannot_hold_is_missing() -> None:
    prices = pl.DataFrame({"price": [1.0, 1e39, -1e308, 3e38]})
    items = item_features(prices)
    np.testing.assert_array_equal(items.numbers["price"], np.float32([1.0, np.nan, np.nan, 3e38]))
    told = with_rows(items, 6, np.array([4, 5, 0]), pl.DataFrame({"price": [1e308, 2.0, 4e38]}))
    expected = np.float32([np.nan, np.nan, np.nan, 3e38, np.nan, 2.0])
    np.testing.assert_array_equal(told.numbers["price"], expected)


def test_a_label_that_is_missing_in_a_list_is_none() -> None:
    """Of a table of JSON lines; a known item is told anew with all that its row says."""
    items = pl.DataFrame({"tags": [["a", None], ["b", "a"], None]}, schema={"tags": pl.List(pl.String)})
    assert [list(row) for row in labels(items["tags"])] == [["a"], ["b", "a"], []]
    told = with_rows(item_features(items), 3, np.array([0]), items[:1]).labels["tags"]
    assert (told.names, told.places_IW.tolist()) == (("a", "b"), [[1, 0], [2, 1], [0, 0]])
