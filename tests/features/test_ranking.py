"""Ranking features against slow definitions, and the properties that make them safe to serve."""

import datetime
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.features.candidates import POPULAR, RETRIEVER
from recray.features.items import Columns, item_features
from recray.features.log import EventLog
from recray.features.past import DAY_S
from recray.features.ranking import (
    EVENT_FEATURES,
    FEATURES,
    KnownOfEvents,
    RankingQuery,
    check_names,
    chosen,
    compute,
    compute_of_events,
    describe,
    event_features_of,
)
from recray.features.ranking.known import KnownOfQuery
from recray.schema import DataError
from tests.features.worlds import (
    DAYS,
    NUM_ITEMS,
    NUM_USERS,
    START,
    Event,
    World,
    int64,
    interesting_times,
    make_items,
    make_log,
    make_world,
)

OF_COLUMNS = (
    *(
        f"{column}_{what}"
        for column in ("brand", "path")
        for what in ("affinity", "affinity_recent", "mean_rating", "overlap_last")
    ),
    "item_price",
    "price_vs_user",
    "item_age_created",
)
NAMES = (*FEATURES, *OF_COLUMNS)


ITEMS = make_items()
RATED = ("user_mean_rating", "genre_mean_rating", "brand_mean_rating", "path_mean_rating")


def make_query(user: int, time: int, seed: int = 0, **changes: object) -> RankingQuery:
    rng = np.random.default_rng(seed)
    return replace(
        RankingQuery(
            user,
            time,
            rng.permutation(NUM_ITEMS)[: NUM_ITEMS - 2],
            rng.integers(0, 5, NUM_ITEMS - 2).astype(np.float32) / 4,  # ties
            rng.integers(1, 4, NUM_ITEMS - 2).astype(np.uint8),
        ),
        **changes,
    )


def share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def slow_user(own: list[Event], now: int) -> dict[str, float]:
    midnight = now // DAY_S * DAY_S
    return {
        "user_events": len(own),
        "user_events_7d": sum(e.time >= midnight - 7 * DAY_S for e in own),
        "user_events_30d": sum(e.time >= midnight - 30 * DAY_S for e in own),
        "user_mean_rating": share(sum(e.rating for e in own), len(own)),
        "user_days_since_last": (now - own[-1].time) / DAY_S if own else math.nan,
        "user_days_since_first": (now - own[0].time) / DAY_S if own else math.nan,
    }


def slow_item(world: World, item: int, before: list[Event], now: int) -> dict[str, float]:
    midnight = now // DAY_S * DAY_S
    own = [e for e in before if e.item == item]
    in_days = {days: sum(e.time >= midnight - days * DAY_S for e in own) for days in (7, 30, 90)}
    prior = share(sum(e.rating for e in before), len(before))
    return {
        "item_events": len(own),
        **{f"item_events_{days}d": count for days, count in in_days.items()},
        "item_trend": share(in_days[30] / 30, in_days[90] / 90),
        "item_mean_rating": (sum(e.rating for e in own) + 10 * prior) / (len(own) + 10),
        "item_days_since_first": (now - own[0].time) / DAY_S if own else math.nan,
        "item_days_since_last": (now - own[-1].time) / DAY_S if own else math.nan,
        "item_age": 1970 + now / (365.2425 * DAY_S) - (ITEMS["year"][item] or math.nan),
        "item_price": ITEMS["price"][item] or math.nan,
        "item_age_created": slow_age(ITEMS["created"][item], now),
    }


def slow_age(date: datetime.date | None, now: int) -> float:
    if date is None:
        return math.nan
    born = datetime.datetime(date.year, date.month, date.day, tzinfo=datetime.UTC).timestamp()
    return (now - born) / DAY_S if born <= now else math.nan


def slow_vs_user(item: int, own: list[Event]) -> float:
    prices = [p for e in own if (p := ITEMS["price"][e.item]) is not None]
    return (ITEMS["price"][item] or math.nan) - share(sum(prices), len(prices))


def slow_taste(column: str, name: str, item: int, own: list[Event]) -> dict[str, float]:
    values = [[row] if isinstance(row, str) else row or [] for row in ITEMS[column].to_list()]
    labels = [set(row) for row in values]
    mine = labels[item]
    shared = [len(mine & labels[e.item]) for e in own]
    weights = [0.5 ** (age / 10) for age in range(len(own))][::-1]
    last = labels[own[-1].item] if own else set()
    weighted = sum(w * s for w, s in zip(weights, shared, strict=True))
    ratings = sum(e.rating * s for e, s in zip(own, shared, strict=True))
    return {
        f"{name}_affinity": share(sum(shared), len(mine) * len(own)),
        f"{name}_affinity_recent": share(weighted, len(mine) * sum(weights)),
        f"{name}_mean_rating": share(ratings, sum(shared)),
        f"{name}_overlap_last": share(len(mine & last), len(mine | last)),
    }


def slow_follows(before: list[Event], own: list[Event], item: int) -> float:
    if not own:
        return math.nan
    follows, occurrences = 0, 0
    for user in range(NUM_USERS):
        row = [e.item for e in before if e.user == user]
        for place, other in enumerate(row):
            if other == own[-1].item:
                occurrences += 1
                follows += row[place + 1 : place + 9].count(item)
    return share(follows, occurrences)


def slow_rank(values: list[float], k: int) -> int:
    ordered = [-math.inf if math.isnan(v) else v for v in values]
    return 1 + sum(v > ordered[k] for v in ordered)


def slow_features(world: World, query: RankingQuery) -> dict[str, list[float]]:
    now, before = query.time, world.before(query.time)
    own = [e for e in before if e.user == query.user_id]
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    rows = []
    for k, item in enumerate(query.candidate_ids_K.tolist()):
        score = float(query.retrieval_scores_K[k])
        rows.append(
            slow_user(own, now)
            | slow_item(world, item, before, now)
            | slow_taste("genres", "genre", item, own)
            | slow_taste("brand", "brand", item, own)
            | slow_taste("path", "path", item, own)
            | {
                "price_vs_user": slow_vs_user(item, own),
                "follows_last": slow_follows(before, own, item),
                "hour_of_day": moment.hour,
                "day_of_week": moment.weekday(),
                "retrieval_score": score,
                "retrieval_gap": float(query.retrieval_scores_K.max()) - score,
                "from_retriever": float(bool(query.sources_K[k] & RETRIEVER)),
                "from_popular": float(bool(query.sources_K[k] & POPULAR)),
            }
        )
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    ranked = {
        "retrieval_rank": "retrieval_score",
        "item_events_rank": "item_events",
        "item_events_30d_rank": "item_events_30d",
        "item_mean_rating_rank": "item_mean_rating",
        "genre_affinity_rank": "genre_affinity",
        "genre_affinity_recent_rank": "genre_affinity_recent",
    }
    for name, of in ranked.items():
        columns[name] = [slow_rank(np.float32(columns[of]).tolist(), k) for k in range(len(rows))]
    return columns


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_feature_matches_its_slow_definition(seed: int) -> None:
    world = make_world(seed, count=300)
    for time in interesting_times(world):
        for user in (0, 3, NUM_USERS - 1, -1):
            query = make_query(user, time, seed)
            features_KF, expected = compute(world.log, query, NAMES), slow_features(world, query)
            assert features_KF.dtype == np.float32
            assert set(expected) == set(NAMES)
            for f, name in enumerate(NAMES):
                np.testing.assert_allclose(
                    features_KF[:, f], np.float32(expected[name]), rtol=1e-5, atol=1e-6, err_msg=name
                )


events = st.builds(
    Event,
    st.integers(0, NUM_USERS - 1),
    st.integers(0, NUM_ITEMS - 1),
    st.one_of(st.floats(-1, 1, width=32), st.floats(-1e8, 1e8, width=32)),  # hard to sum exactly
    st.integers(START, START + DAYS * DAY_S),
)


@given(
    past=st.lists(events, max_size=60),
    time=st.integers(START - DAY_S, START + (DAYS + 5) * DAY_S),
    delays=st.lists(st.tuples(events, st.integers(0, 2**31), st.integers(0, 100)), max_size=20),
    user=st.integers(-1, NUM_USERS - 1),
)
@settings(max_examples=150, deadline=None)
def test_events_at_the_request_time_or_later_change_no_bit(
    past: list[Event], time: int, delays: list[tuple[Event, int, int]], user: int
) -> None:
    query = make_query(user, time)
    known = [event for event in past if event.time < time]
    expected = compute(make_log(known), query, NAMES)
    grown = list(known)
    for event, delay, place in delays:  # later events anywhere in the file
        grown.insert(place % (len(grown) + 1), event._replace(time=time + delay))
    assert compute(make_log(grown), query, NAMES).tobytes() == expected.tobytes()


def test_the_event_itself_is_not_seen() -> None:
    world = make_world()
    event = world.events[70]
    query = make_query(event.user, event.time)
    without = [e for e in world.events if e.time != event.time]
    assert compute(world.log, query, NAMES).tobytes() == compute(make_log(without), query, NAMES).tobytes()


def test_a_query_gives_the_same_bits_whatever_was_asked_before() -> None:
    world = make_world()
    query = make_query(2, START + 60 * DAY_S)
    expected = compute(make_world().log, query, NAMES).tobytes()
    for time in interesting_times(world) * 3:  # more days than the log keeps in its cache
        compute(world.log, make_query(1, time, seed=time % 7), NAMES)
        assert compute(world.log, query, NAMES).tobytes() == expected


def test_rows_follow_their_candidates() -> None:
    world, query = make_world(), make_query(1, START + 80 * DAY_S)
    order = np.random.default_rng(5).permutation(len(query.candidate_ids_K))
    shuffled = replace(
        query,
        candidate_ids_K=query.candidate_ids_K[order],
        retrieval_scores_K=query.retrieval_scores_K[order],
        sources_K=query.sources_K[order],
    )
    assert compute(world.log, shuffled, NAMES).tobytes() == compute(world.log, query, NAMES)[order].tobytes()


def test_unknown_users_are_described_by_the_history_they_bring() -> None:
    world, time = make_world(), START + 80 * DAY_S
    own = [event for event in world.before(time) if event.user == 2]
    ids, times = int64([e.item for e in own]), int64([e.time for e in own])
    known = compute(world.log, make_query(2, time), NAMES)
    brought = compute(world.log, make_query(-1, time, history_ids=ids, history_times=times), NAMES)
    needs_ratings = [NAMES.index(name) for name in NAMES if name in RATED]
    assert np.isnan(brought[:, needs_ratings]).all()
    rest = np.delete(np.arange(len(NAMES)), needs_ratings)
    assert brought[:, rest].tobytes() == known[:, rest].tobytes()
    untimed = compute(world.log, make_query(-1, time, history_ids=ids), NAMES)
    assert np.isnan(untimed[:, NAMES.index("user_days_since_last")]).all()
    affinity = NAMES.index("genre_affinity_recent")
    assert untimed[:, affinity].tobytes() == known[:, affinity].tobytes()


def test_a_history_overrides_what_the_log_knows() -> None:
    world, time = make_world(), START + 80 * DAY_S
    overridden = compute(world.log, make_query(2, time, history_ids=int64([3])), NAMES)
    assert (overridden[:, NAMES.index("user_events")] == 1).all()


def test_scores_may_be_missing_and_lists_short() -> None:
    world, query = make_world(), make_query(1, START + 80 * DAY_S)
    scores_K = query.retrieval_scores_K.copy()
    scores_K[3] = np.nan
    features_KF = compute(world.log, replace(query, retrieval_scores_K=scores_K), NAMES)
    column = {name: features_KF[:, f] for f, name in enumerate(NAMES)}
    assert np.isnan(column["retrieval_score"][3])
    assert np.isnan(column["retrieval_gap"][3])
    assert column["retrieval_rank"][3] == len(scores_K)
    assert np.isfinite(np.delete(column["retrieval_gap"], 3)).all()
    nothing = replace(
        query,
        candidate_ids_K=int64([]),
        retrieval_scores_K=np.empty(0, np.float32),
        sources_K=np.empty(0, np.uint8),
    )
    assert compute(world.log, nothing, NAMES).shape == (0, len(NAMES))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidate_ids_K": np.arange(3, NUM_ITEMS + 1)}, "candidate 12 is not in the log's catalogue"),
        ({"history_ids": int64([-4])}, "history item -4"),
        ({"sources_K": np.ones(3, np.uint8)}, r"\(10, 10, 3\) entries"),
        ({"user_id": 55}, "user id 55"),
        ({"history_ids": int64([1, 2]), "history_times": int64([5])}, "2 history items and 1 times"),
    ],
)
def test_wrong_queries_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compute(make_world().log, make_query(0, START, **changes), NAMES)


def test_features_of_columns_that_items_lack_are_chosen_by_name_alone() -> None:
    lacking = chosen((), Columns(labels=("brand",)))
    assert not [name for name in lacking if name.startswith("genre") or name == "item_age"]
    assert {*FEATURES} - {*chosen((), Columns(labels=("genres",)))} == {"item_age"}
    assert chosen((), Columns(("genres",), ("year",))) == tuple(FEATURES)
    assert chosen(("genre_affinity",), Columns()) == ("genre_affinity",)


def test_the_table_of_features_is_complete() -> None:
    groups = {"user", "item", "user x item", "context", "retrieval", "list"}
    assert {feature.group for feature in FEATURES.values()} == groups
    for name, feature in FEATURES.items():
        assert name == feature.name
        assert feature.unit
        assert feature.text.endswith(".")
        assert "\n" not in feature.text
        assert f"`{feature.name}`" in describe()


def test_the_columns_asked_for_come_in_that_order_and_no_others() -> None:
    world = make_world()
    for time in interesting_times(world):
        query = make_query(2, time)
        whole = compute(world.log, query, NAMES)
        for f, name in enumerate(NAMES):
            assert compute(world.log, query, (name,)).tobytes() == whole[:, f : f + 1].tobytes()
        backwards = compute(world.log, query, NAMES[::-1])
        assert backwards.tobytes() == whole[:, ::-1].tobytes()
    assert compute(world.log, query, ()).shape == (NUM_ITEMS - 2, 0)


def test_only_what_the_columns_need_is_looked_up() -> None:
    known = KnownOfQuery(make_world().log, make_query(2, START + 80 * DAY_S))
    looked_up = {"history", "item", "mean_rating"}
    for name in ("hour_of_day", "item_age", "retrieval_score", "retrieval_rank", "from_popular"):
        FEATURES[name].define(known)
    assert not looked_up & vars(known).keys()
    assert not known.tastes
    FEATURES["item_events_30d_rank"].define(known)
    assert looked_up & vars(known).keys() == {"item"}
    FEATURES["item_mean_rating_rank"].define(known)
    assert looked_up & vars(known).keys() == {"item", "mean_rating"}


def test_unknown_features_are_refused_with_the_nearest_name() -> None:
    world, query = make_world(), make_query(2, START)
    with pytest.raises(DataError, match=r"no ranking feature 'item_evnts', did you mean 'item_events'\?"):
        compute(world.log, query, ("hour_of_day", "item_evnts"))
    with pytest.raises(DataError, match="no ranking feature 'user_evnts', did you mean 'user_events"):
        chosen(("user_evnts",))
    with pytest.raises(DataError, match="named twice in item_events, item_events"):
        chosen(("item_events", "item_events"))
    with pytest.raises(DataError, match="no ranking feature 'retrieval_rank'"):
        compute_of_events(KnownOfEvents(world.log), ("retrieval_rank",))
    assert {*chosen()} < {*FEATURES}
    assert chosen((), world.log.columns) == NAMES
    with pytest.raises(DataError, match="no ranking feature 'prize_vs_user', did you mean 'price_vs_user'"):
        compute(world.log, query, ("prize_vs_user",))
    assert chosen(("item_age", "user_events")) == ("item_age", "user_events")


@given(past=st.lists(events, min_size=1, max_size=60), ties=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_what_is_known_of_an_event_is_what_a_query_at_its_time_is_told(past: list[Event], ties: int) -> None:
    """Bit for bit, for every feature that rows and queries share; most events share their second."""
    days = [START + event.time % ties * DAYS * DAY_S // ties for event in past]
    log = make_log([event._replace(time=time) for event, time in zip(past, days, strict=True)])
    names = tuple(event_features_of(log.columns))
    assert {"item_price", "item_age_created", *EVENT_FEATURES} == {*names}
    assert {"user_events_30d", "user_mean_rating", "item_trend", "item_mean_rating", "day_of_week"} < {*names}
    of_events_NF = compute_of_events(KnownOfEvents(log), names)
    for n, (user, item, _, time) in enumerate(log.events().rows()):
        query = RankingQuery(user, time, int64([item]), np.zeros(1, np.float32), np.ones(1, np.uint8))
        assert of_events_NF[n].tobytes() == compute(log, query, names)[0].tobytes()


def test_rates_are_means_of_other_values_over_the_same_past() -> None:
    world = make_world()
    liked_N = world.log.ratings_N > 3
    other = make_log([e._replace(rating=float(e.rating > 3)) for e in world.events])
    names = ("user_mean_rating", "item_mean_rating", "item_events_30d")
    rates = compute_of_events(KnownOfEvents(world.log, liked_N), names)
    assert rates.tobytes() == compute_of_events(KnownOfEvents(other), names).tobytes()


def test_columns_whose_names_collide_or_have_brackets(caplog: pytest.LogCaptureFixture) -> None:
    columns = Columns(labels=("genre",), numbers=("events", "id", "price [EUR]", "price (EUR]"))
    names = set(chosen((), columns)) - {*FEATURES}
    assert names == {
        *("genre__affinity", "genre__affinity_recent", "genre__mean_rating", "genre__overlap_last"),
        *("item_events_", "events_vs_user", "item_id_", "id_vs_user"),
        *("item_price (EUR)", "price (EUR)_vs_user"),
    }
    check_names(tuple(names))
    assert {"item_events_", "item_id_"} < {*event_features_of(columns)}
    assert caplog.text.count("another column's feature has that name") == 2


def test_a_column_called_genre_says_of_items_what_one_called_genres_does() -> None:
    """``genre_affinity`` is a name of its own: such columns, which many tables have, gave no taste at all."""
    rng = np.random.default_rng(0)
    events = [rng.integers(0, size, 400) for size in (NUM_USERS, NUM_ITEMS, 5)]
    times_N = START + rng.integers(0, 10**6, 400)
    table = pl.DataFrame({"genres": [[f"g{n % 4}"] for n in range(NUM_ITEMS)]})
    logs = [
        EventLog(*events, times_N, num_users=NUM_USERS, num_items=NUM_ITEMS, items=item_features(one))
        for one in (table, table.rename({"genres": "genre"}))
    ]
    query = make_query(2, START + 10**6)
    of_genres, of_genre = (
        compute(log, query, [name.format(called) for name in ("{}_affinity", "{}_mean_rating")])
        for log, called in zip(logs, ("genre", "genre_"), strict=True)
    )
    assert np.isfinite(of_genres).any()
    np.testing.assert_array_equal(of_genre, of_genres)


def test_what_a_request_says_of_itself_is_a_feature_by_the_name_of_its_field() -> None:
    world = make_world()
    names = ("context.market=de", "context.market=7", "context.basket", "item_events", "context.is_new=true")
    said: list[tuple[dict[str, bool | float | str], list[float]]] = [
        ({}, [math.nan, math.nan, math.nan, math.nan]),
        ({"market": "de", "basket": 12.5, "is_new": True}, [1, 0, 12.5, 1]),
        ({"market": 7, "basket": 3, "is_new": False}, [0, 1, 3, 0]),
        ({"market": "DE", "basket": "12.5", "device": "de"}, [0, 0, math.nan, math.nan]),
        ({"basket": True}, [math.nan, math.nan, 1, math.nan]),
        ({"basket": 1e300}, [math.nan, math.nan, math.nan, math.nan]),  # no float32 is that large
    ]
    without = compute(world.log, make_query(2, START), ("item_events",))
    for context, expected in said:
        features_KF = compute(world.log, make_query(2, START, context=context), names)
        for row in features_KF[:, [0, 1, 2, 4]]:
            np.testing.assert_array_equal(row, expected)
        np.testing.assert_array_equal(features_KF[:, [3]], without)
    for wrong in ("context.", "context.market=", "context.a b", "context.market=[de]", "context"):
        with pytest.raises(DataError, match="no ranking feature"):
            check_names((wrong,))
    check_names(names)
    with pytest.raises(DataError, match="no ranking feature 'context.market=de'"):  # an event has no request
        compute_of_events(KnownOfEvents(world.log), names[:1])
