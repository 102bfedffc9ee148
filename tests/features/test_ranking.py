"""Ranking features against slow definitions, and the properties that make them safe to serve."""

import datetime
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.features.candidates import POPULAR, RETRIEVER
from recray.features.log import DAY_S
from recray.features.ranking import FEATURE_NAMES, FEATURES, RankingQuery, compute, describe
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
    make_log,
    make_world,
)


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
        "item_age": 1970 + now / (365.2425 * DAY_S) - float(world.log.items.years_I[item]),
    }


def slow_taste(world: World, item: int, own: list[Event]) -> dict[str, float]:
    genres = [set(np.flatnonzero(row)) for row in world.log.items.genres_IG]
    mine = genres[item]
    shared = [len(mine & genres[e.item]) for e in own]
    weights = [0.5 ** (age / 10) for age in range(len(own))][::-1]
    last = genres[own[-1].item] if own else set()
    weighted = sum(w * s for w, s in zip(weights, shared, strict=True))
    ratings = sum(e.rating * s for e, s in zip(own, shared, strict=True))
    return {
        "genre_affinity": share(sum(shared), len(mine) * len(own)),
        "genre_affinity_recent": share(weighted, len(mine) * sum(weights)),
        "genre_mean_rating": share(ratings, sum(shared)),
        "genre_overlap_last": share(len(mine & last), len(mine | last)),
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
            | slow_taste(world, item, own)
            | {
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
            features_KF, expected = compute(world.log, query), slow_features(world, query)
            assert features_KF.dtype == np.float32
            assert set(expected) == set(FEATURE_NAMES)
            for f, name in enumerate(FEATURE_NAMES):
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
    expected = compute(make_log(known), query)
    grown = list(known)
    for event, delay, place in delays:  # later events anywhere in the file
        grown.insert(place % (len(grown) + 1), event._replace(time=time + delay))
    assert compute(make_log(grown), query).tobytes() == expected.tobytes()


def test_the_event_itself_is_not_seen() -> None:
    world = make_world()
    event = world.events[70]
    query = make_query(event.user, event.time)
    without = [e for e in world.events if e.time != event.time]
    assert compute(world.log, query).tobytes() == compute(make_log(without), query).tobytes()


def test_a_query_gives_the_same_bits_whatever_was_asked_before() -> None:
    world = make_world()
    query = make_query(2, START + 60 * DAY_S)
    expected = compute(make_world().log, query).tobytes()
    for time in interesting_times(world) * 3:  # more days than the log keeps in its cache
        compute(world.log, make_query(1, time, seed=time % 7))
        assert compute(world.log, query).tobytes() == expected


def test_rows_follow_their_candidates() -> None:
    world, query = make_world(), make_query(1, START + 80 * DAY_S)
    order = np.random.default_rng(5).permutation(len(query.candidate_ids_K))
    shuffled = replace(
        query,
        candidate_ids_K=query.candidate_ids_K[order],
        retrieval_scores_K=query.retrieval_scores_K[order],
        sources_K=query.sources_K[order],
    )
    assert compute(world.log, shuffled).tobytes() == compute(world.log, query)[order].tobytes()


def test_unknown_users_are_described_by_the_history_they_bring() -> None:
    world, time = make_world(), START + 80 * DAY_S
    own = [event for event in world.before(time) if event.user == 2]
    ids, times = int64([e.item for e in own]), int64([e.time for e in own])
    known = compute(world.log, make_query(2, time))
    brought = compute(world.log, make_query(-1, time, history_ids=ids, history_times=times))
    needs_ratings = [FEATURE_NAMES.index(name) for name in ("user_mean_rating", "genre_mean_rating")]
    assert np.isnan(brought[:, needs_ratings]).all()
    rest = np.delete(np.arange(len(FEATURE_NAMES)), needs_ratings)
    assert brought[:, rest].tobytes() == known[:, rest].tobytes()
    untimed = compute(world.log, make_query(-1, time, history_ids=ids))
    assert np.isnan(untimed[:, FEATURE_NAMES.index("user_days_since_last")]).all()
    affinity = FEATURE_NAMES.index("genre_affinity_recent")
    assert untimed[:, affinity].tobytes() == known[:, affinity].tobytes()


def test_a_history_overrides_what_the_log_knows() -> None:
    world, time = make_world(), START + 80 * DAY_S
    overridden = compute(world.log, make_query(2, time, history_ids=int64([3])))
    assert (overridden[:, FEATURE_NAMES.index("user_events")] == 1).all()


def test_scores_may_be_missing_and_lists_short() -> None:
    world, query = make_world(), make_query(1, START + 80 * DAY_S)
    scores_K = query.retrieval_scores_K.copy()
    scores_K[3] = np.nan
    features_KF = compute(world.log, replace(query, retrieval_scores_K=scores_K))
    column = {name: features_KF[:, f] for f, name in enumerate(FEATURE_NAMES)}
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
    assert compute(world.log, nothing).shape == (0, len(FEATURE_NAMES))


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
        compute(make_world().log, make_query(0, START, **changes))


def test_the_table_of_features_is_complete() -> None:
    assert max(Counter(FEATURE_NAMES).values()) == 1
    assert {feature.group for feature in FEATURES} == {"user", "item", "user x item", "context", "retrieval"}
    for feature in FEATURES:
        assert feature.unit
        assert feature.text.endswith(".")
        assert "\n" not in feature.text
        assert f"`{feature.name}`" in describe()
