"""Business rules, each against what its words say."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from recray.config import ConfigError
from recray.features.candidates import Candidates
from recray.serve.barred import Allowed, Barred
from recray.serve.clock import StageClock
from recray.serve.http.requests import RecommendRequest, RequestError, parse
from recray.serve.place.pipeline import Pipeline
from recray.serve.query import Query
from recray.serve.rules.allowed import AllowedConfig, Condition, _allowed, _holds
from recray.serve.rules.diversify import Diversify, DiversityConfig
from recray.serve.rules.explore import Explore, ExploreConfig
from recray.serve.rules.fresh import DAY_S, Fresh, FreshConfig
from recray.serve.rules.listed import Rules
from recray.serve.rules.pinned import Pin, PinnedConfig
from recray.serve.seen import DAY_S as SEEN_DAY_S
from recray.serve.stages.listed import StagesConfig
from recray.serve.stages.retrieve import retrieved
from recray.serve.stages.shorten import Shorten
from recray.serve.state import RequestState
from recray.serve.versions import open_served
from recray.store import Store
from tests.serve.world import APPLICATION, NOW, NUM_ITEMS, World


def state_of(scores: Sequence[float], k: int, further: int = 0) -> RequestState:
    """Items 0, 1, ... with these scores, in their order, and more that fill a list."""
    query = Query(-1, None, np.empty(0, np.int64), NOW, k=k)
    scores_K = np.array(scores, np.float32)
    found = Candidates(np.arange(len(scores)), scores_K, np.ones(len(scores), np.uint8))
    ids = np.arange(len(scores), len(scores) + further)
    fills = Candidates(ids, np.full(further, np.nan, np.float32), np.full(further, 2, np.uint8))
    state = retrieved(RequestState(query, StageClock()), found, None, None, fills)
    order_K = np.argsort(-scores_K, kind="stable")
    return state._replace(order_S=np.append(order_K, ids))


# ------------------------------------------------------------------ diversity


@pytest.fixture
def vectors() -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).normal(size=(12, 4)).astype(np.float32)


@pytest.fixture
def scores() -> list[float]:
    return np.random.default_rng(4).random(12).tolist()


def slow_choice(
    strategy: str, scores: Sequence[float], vectors: np.ndarray[Any, Any], k: int, strength: float
) -> list[int]:
    """Greedy, from the papers' formulas."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = (np.array(scores, np.float32) - min(scores)) / (max(scores) - min(scores))
    cosine = unit @ unit.T

    def value(i: int, chosen: list[int]) -> float:
        if strategy == "mmr":
            penalty = max([0.0, *(float(cosine[i, j]) for j in chosen)])
            return float((1 - strength) * relevance[i] - strength * penalty)
        if strategy == "msd":
            distance = sum(1 - float(cosine[i, j]) for j in chosen)
            # The first is the most relevant one, whatever the strength.
            return float(((1 - strength) if chosen else 1) * relevance[i] + strength * distance)
        weights = np.exp((1 - strength) * (relevance - relevance.mean()) / relevance.std())
        kernel = weights[:, None] * cosine * weights[None]
        return float(np.linalg.slogdet(kernel[np.ix_([*chosen, i], [*chosen, i])])[1])

    chosen: list[int] = []
    while len(chosen) < k:
        chosen.append(max((i for i in range(len(scores)) if i not in chosen), key=lambda i: value(i, chosen)))
    return chosen


@pytest.mark.parametrize("strength", [0.2, 0.6])
@pytest.mark.parametrize(("strategy", "k"), [("mmr", 8), ("msd", 8), ("dpp", 4)])
def test_diversity_is_what_its_paper_says(
    strategy: Any, k: int, strength: float, scores: list[float], vectors: np.ndarray[Any, Any]
) -> None:
    rule = Diversify(vectors, DiversityConfig(strength=strength, strategy=strategy))
    shown = Shorten()(rule(state_of(scores, k))).item_ids_S.tolist()
    assert shown == slow_choice(strategy, scores, vectors, k, strength)


def test_diversity_chooses_among_the_best_and_loses_nothing(
    scores: list[float], vectors: np.ndarray[Any, Any]
) -> None:
    rule = Diversify(vectors, DiversityConfig(strength=1.0, among=5))
    state = rule(state_of(scores, 3, further=2))
    best = np.argsort(-np.array(scores))[:5].tolist()
    assert set(state.item_ids_S[:3].tolist()) <= set(best)
    assert sorted(state.item_ids_S.tolist()) == list(range(14))
    assert state.item_ids_S[-2:].tolist() == [12, 13], "what fills a list stays behind"


# ------------------------------------------------------------------ newness


def test_new_items_gain_and_the_gain_halves() -> None:
    since_I = np.array([NOW - 60 * DAY_S, NOW - 30 * DAY_S, NOW, np.nan])
    scores = [1.0, 0.9, 0.1, 0.95]
    gain = 2.0 * float(np.std(np.array(scores, np.float32)))
    worth = [1.0 + gain / 4, 0.9 + gain / 2, 0.1 + gain, 0.95]
    rule = Fresh(since_I, FreshConfig(gain=2.0, half_life_days=30.0, column="since"))
    state = rule(state_of(scores, 4, further=1))
    assert state.item_ids_S.tolist() == [*sorted(range(4), key=lambda i: -worth[i]), 4]
    assert state.scores_K[:4].tolist() == np.array(scores, np.float32).tolist(), (
        "what is shown is the ranker's"
    )


def test_an_item_of_tomorrow_is_as_new_as_one_of_today() -> None:
    rule = Fresh(np.array([NOW + 40 * DAY_S, NOW]), FreshConfig(gain=1.0, column="since"))
    assert rule(state_of([0.5, 0.6], 2)).item_ids_S.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"gain": 1.0}, "name the column"),
        ({"gain": -1.0}, "must not be negative"),
        ({"gain": math.nan}, "must not be negative or without end, got nan"),
        ({"gain": math.inf}, "must not be negative or without end, got inf"),
        ({"half_life_days": 0.0}, "must be positive"),
        ({"half_life_days": math.nan}, "must be positive"),
    ],
)
def test_wrong_options_of_newness_are_refused(options: dict[str, float], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        FreshConfig(**options)  # type: ignore[arg-type]


def test_newness_needs_dates(published: Store) -> None:
    rules = Rules(fresh=FreshConfig(gain=1.0, column="year"))
    with pytest.raises(ConfigError, match="no column 'year' of dates: no column of it holds dates"):
        Pipeline(open_served(published, APPLICATION), StagesConfig(rules=rules))


# ------------------------------------------------------------------ exploration

DRAWS = 4_000


@pytest.mark.parametrize("policy", ["epsilon", "plackett_luce"])
def test_lists_are_drawn_with_the_chances_that_they_say(policy: Any) -> None:
    rule = Explore(ExploreConfig(policy=policy, epsilon=0.5, temperature=1.5, among=4, seed=1))
    asked = state_of([0.4, 0.3, 0.2, 0.1, 0.0], 2)
    counts: dict[tuple[int, ...], list[float]] = {}
    for second in range(DRAWS):
        state = Shorten()(rule(asked._replace(query=replace(asked.query, time=second))))
        assert state.propensities_S is not None
        said = counts.setdefault(tuple(state.item_ids_S.tolist()), [0.0, float(state.propensities_S.prod())])
        said[0] += 1 / DRAWS
    assert len(counts) == 12, "every pair of the first four, in both orders"
    assert sum(chance for _, chance in counts.values()) == pytest.approx(1.0)
    for share, chance in counts.values():
        assert abs(share - chance) < 5 * np.sqrt(chance * (1 - chance) / DRAWS)


def test_what_fills_a_list_is_not_drawn() -> None:
    rule = Explore(ExploreConfig(policy="epsilon", epsilon=1.0, seed=0))
    state = Shorten()(rule(state_of([0.3, 0.2, 0.1], 5, further=4)))
    assert sorted(state.item_ids_S[:3].tolist()) == [0, 1, 2]
    assert state.item_ids_S[3:].tolist() == [3, 4]
    assert state.propensities_S is not None
    np.testing.assert_allclose(state.propensities_S, [1 / 3, 1 / 2, 1, 1, 1])


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 1.5},
        {"epsilon": math.nan},
        {"temperature": 1e-320},
        {"temperature": math.nan},
        {"among": 0},
        {"seed": -1},
    ],
)
def test_wrong_options_of_exploration_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"explore: {next(iter(options))} must be"):
        ExploreConfig(**options)


def test_answers_say_how_likely_each_draw_was(published: Store) -> None:
    rules = Rules(explore=ExploreConfig(policy="plackett_luce", temperature=3.0))
    plain, explored = (
        Pipeline(open_served(published, APPLICATION), StagesConfig(rules=r)) for r in (Rules(), rules)
    )
    request = RecommendRequest(user_id="103", k=10, request_time=NOW, explain=True)
    best = [item["item_id"] for item in plain.recommend(replace_k(request, 60))["items"]]
    lists = [explored.recommend(request)["items"] for _ in range(20)]
    assert len({tuple(item["item_id"] for item in items) for items in lists}) == 20
    for items in lists:
        weights = {item_id: float(np.exp(-place / 3.0)) for place, item_id in enumerate(best[:50])}
        for item in items:
            assert item["propensity"] == pytest.approx(
                weights.pop(item["item_id"])
                / (sum(weights.values()) + np.exp(-best.index(item["item_id"]) / 3.0))
            )
        reasons = [item["features"] for item in items]
        assert len({tuple(values.values()) for values in reasons}) > 1
    assert all("propensity" not in item for item in plain.recommend(request)["items"])


def replace_k(request: RecommendRequest, k: int) -> RecommendRequest:
    return request.model_copy(update={"k": k, "explain": False})


# ------------------------------------------------------------------ what may be served

USER = "103"  # row 3


def opened(published: Store, rules: Rules | None = None, **options: Any) -> Pipeline:
    return Pipeline(open_served(published, APPLICATION), StagesConfig(rules=rules or Rules(), **options))


def shown(pipeline: Pipeline, k: int = 10, **fields: Any) -> list[str]:
    fields.setdefault("user_id", USER)
    answer = pipeline.recommend(RecommendRequest(k=k, request_time=NOW, **fields))
    return [item["item_id"] for item in answer["items"]]


def test_what_is_told_of_availability_never_lifts_a_deny() -> None:
    barred = Barred(4)
    barred.deny(np.array([True, False, False, False]))
    barred.bar(np.array([False, True, False, False]))
    barred.change({0: True, 1: True, 2: False})
    assert barred.now.ids.tolist() == [0, 2]
    assert barred.now.denied_ids.tolist() == [0]
    barred.change({2: True})
    assert barred.now.ids.tolist() == [0]


@pytest.mark.parametrize("user", [USER, "a stranger"])
def test_denied_items_are_gone_and_lists_stay_full(
    published: Store, world: World, tmp_path: Any, user: str
) -> None:
    before = shown(opened(published), user_id=user)
    (tmp_path / "deny.txt").write_text(f"{before[2]}\r\n\r\n{before[5]}\r\n", "utf-8-sig")  # of Excel
    denying = opened(
        published, Rules(allowed=AllowedConfig(deny=(before[0],), deny_file=f"{tmp_path}/deny.txt"))
    )
    after = shown(denying, user_id=user)
    assert len(after) == 10
    assert not {before[0], before[2], before[5]} & set(after)
    near = [item["item_id"] for item in opened(published).similar("i1", 5)["items"]]
    rules = Rules(allowed=AllowedConfig(deny=(near[0],)))
    assert [item["item_id"] for item in opened(published, rules).similar("i1", 5)["items"]][:4] == near[1:]


@pytest.mark.parametrize("user", [USER, "a stranger"])
def test_only_what_is_allowed_is_served(published: Store, world: World, user: str) -> None:
    wars = {f"i{n}" for n, genres in enumerate(world.items["genres"].to_list()) if "war" in genres}
    assert 20 < len(wars) < NUM_ITEMS
    found = shown(
        opened(published, Rules(allowed=AllowedConfig(only_where=("genres=war",)))), 20, user_id=user
    )
    assert len(found) == 20
    assert set(found) <= wars
    few = tuple(f"i{n}" for n in range(200, 240))
    rules = Rules(allowed=AllowedConfig(only=few, deny_where=("genres=war",)))
    found = shown(opened(published, rules), 50, user_id=user)
    own = {f"i{n}" for n in world.seen(3)} if user == USER else set()
    assert set(found) == set(few) - wars - own


def test_what_is_allowed_depends_on_the_context(published: Store, world: World) -> None:
    genres = [each[0] for each in world.items["genres"].to_list()]
    rules = Rules(allowed=AllowedConfig(only_where=("genres=context.genre", "year=context.year")))
    pipeline = opened(published, rules)
    for genre in ("war", "comedy"):
        found = shown(pipeline, 20, context={"genre": genre})
        assert len(found) == 20
        assert {genres[int(item[1:])] for item in found} == {genre}
    assert shown(pipeline, 20) == shown(opened(published), 20), "no field, no rule"
    assert shown(pipeline, context={"genre": "opera"}) == []
    year = int(world.items["year"][250])
    found = shown(pipeline, 5, context={"year": year, "unread": True})
    assert found
    assert {int(world.items["year"][int(item[1:])]) for item in found} == {year}


def test_numbers_are_compared_as_numbers(caplog: pytest.LogCaptureFixture) -> None:
    """``7`` and ``7.0`` are one number in JSON, and in tables of a shop all numbers are floats."""
    items = pl.DataFrame({"price": [7.0, 9.5, None, -0.0, 0.0], "size": [7, 9, None, 0, 1]})
    for said, rows in (("7", [0]), ("7.0", [0]), ("9.5", [1]), ("0", [3, 4]), ("1e1", []), ("cheap", [])):
        assert np.flatnonzero(_holds(items, Condition("price", said))).tolist() == rows
    assert "no item has price=cheap" in caplog.text
    of_context = _allowed(items, "price", [Condition.parse("only_where", "price=context.price")])
    for value in (7, 7.0, "7"):
        denied_I = of_context.denied(of_context.said({"price": value}), len(items))
        assert np.flatnonzero(~denied_I).tolist() == [0]
    of_context = _allowed(items, "size", [Condition.parse("only_where", "size=context.size")])
    assert of_context.said({"size": 7.0}) == ("7",)
    assert Pin.parse("1=i7 if size=7").holds(replace(state_of([], 1).query, context={"size": 7.0}))


@pytest.mark.parametrize(
    ("context", "genres"),
    [
        ({}, {"war"}),
        ({"genre": "comedy"}, {"war", "comedy"}),
        ({"genre": "comedy", "other": "drama"}, {"war", "comedy", "drama"}),
        ({"genre": "opera"}, {"war"}),
    ],
)
def test_of_each_column_one_condition_is_enough(
    published: Store, world: World, context: dict[str, str], genres: set[str]
) -> None:
    conditions = ("genres=war", "genres=context.genre", "genres=context.other")
    found = shown(
        opened(published, Rules(allowed=AllowedConfig(only_where=conditions))), 150, context=context
    )
    assert {world.items["genres"][int(item[1:])][0] for item in found} == genres


def test_contexts_that_name_nothing_leave_room_for_those_that_do() -> None:
    barred = Barred(2)
    barred.deny(np.zeros(2, bool), (Allowed(("market",), {"de": np.array([1])}),))
    assert {len(barred.of({"market": f"m{n}"}).ids) for n in range(1_000)} == {2}
    assert barred.of({"market": "de"}).ids.tolist() == [0]
    assert barred.of({"market": "de"}) is barred.of({"market": "de"}), "it is made once"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"only_where": ("genres",)}, "conditions like"),
        ({"only_where": ("genres=context.größe",)}, "conditions like"),
        ({"only_where": ("genres=context.",)}, "conditions like"),
        ({"deny_where": ("genres=context.genre",)}, "cannot read the context"),
    ],
)
def test_wrong_conditions_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        AllowedConfig(**options)


def test_rules_that_allow_nothing_are_refused(published: Store) -> None:
    for options, problem in (
        ({"only_where": ("genre=war",)}, "no column 'genre'"),
        ({"only_where": ("genres=opera",)}, "no item of .* may be served"),
        ({"deny_file": "/nowhere"}, "deny_file /nowhere cannot be read"),
    ):
        with pytest.raises(ConfigError, match=problem):
            opened(published, Rules(allowed=AllowedConfig(**options)))  # type: ignore[arg-type]


# ------------------------------------------------------------------ what was seen


def test_seen_items_come_back_after_so_many_days(published: Store, world: World) -> None:
    mine = world.log.user_ids_N == 3
    ages_N = (NOW - world.log.timestamps_N[mine]) / SEEN_DAY_S
    items_N, days = world.log.item_ids_N[mine], float(np.median(ages_N))
    lately = {f"i{n}" for n in items_N[ages_N <= days]}
    before = {f"i{n}" for n in items_N} - lately
    found = set(shown(opened(published, seen="after", seen_after_days=days), 300))
    assert lately
    assert before
    assert not lately & found
    assert before <= found
    everything = opened(published, seen="after", seen_after_days=0.0)
    named, excluded = sorted(before)[:2]
    found = set(shown(everything, 300, history=[named], exclude=[excluded]))
    assert not {named, excluded} & found, "what a request names itself stays out"


# ------------------------------------------------------------------ pins


def test_pins_stand_at_their_places(published: Store, world: World) -> None:
    free = [f"i{n}" for n in range(250, 300) if n not in world.seen(3)]
    pins = PinnedConfig(items=(f"3={free[0]}", f"1={free[1]} if market=de", f"1={free[2]}"))
    pipeline, plain = opened(published, Rules(pinned=pins)), shown(opened(published), 12)
    others = [item for item in plain if item not in free[:3]]
    assert shown(pipeline) == [free[2], others[0], free[0], *others[1:8]]
    assert shown(pipeline, context={"market": "de"}) == [free[1], others[0], free[0], *others[1:8]]
    assert shown(pipeline, exclude=[free[0]]) == [free[2], *others[:9]]
    answer = pipeline.recommend(RecommendRequest(user_id=USER, request_time=NOW, explain=True))
    assert [item["source"] == "pinned" for item in answer["items"][:4]] == [True, False, True, False]
    of_plain = opened(published).recommend(RecommendRequest(user_id=USER, request_time=NOW, explain=True))
    assert answer["items"][1]["features"] == of_plain["items"][0]["features"]
    assert plain[4] not in shown(opened(published, Rules(pinned=pins)), exclude=[plain[4]])


def test_pins_that_may_not_be_shown_are_not(published: Store, world: World) -> None:
    seen, free = f"i{min(world.seen(3))}", f"i{max(set(range(NUM_ITEMS)) - world.seen(3))}"
    pins = (f"1={seen}", f"2={free}", "3=unheard of")
    deny = AllowedConfig(deny=(free,))
    assert not {seen, free} & set(
        shown(opened(published, Rules(pinned=PinnedConfig(items=pins), allowed=deny)))
    )
    again = PinnedConfig(items=pins, even_seen=True)
    assert shown(opened(published, Rules(pinned=again)))[:2] == [seen, free]


def test_lists_are_drawn_around_what_is_pinned(published: Store) -> None:
    plain = shown(opened(published), 60)
    pinned = PinnedConfig(items=(f"2={plain[1]}",))
    explore = ExploreConfig(policy="plackett_luce", temperature=3.0, among=50)
    pipeline = opened(published, Rules(explore=explore, pinned=pinned))
    order = [item for item in plain if item != plain[1]][:50]
    for _ in range(20):
        answer = pipeline.recommend(RecommendRequest(user_id=USER, request_time=NOW))
        assert len(answer["items"]) == 10
        left = {item: float(np.exp(-place / 3.0)) for place, item in enumerate(order)}
        for place, item in enumerate(answer["items"]):
            if place == 1:
                assert (item["item_id"], item["propensity"]) == (plain[1], 1.0)
                continue
            total = sum(left.values())
            assert item["propensity"] == pytest.approx(left.pop(item["item_id"]) / total)


@pytest.mark.parametrize("text", ["i7", "0=i7", "501=i7", "1=", "1=i7 if market", "1=i7 if a b=c", "x=i7"])
def test_wrong_pins_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="pinned: items holds pins like"):
        Pin.parse(text)


@pytest.mark.parametrize(
    "context",
    [{"a b": 1}, {"a": None}, {"a": [1]}, {"a": "x" * 201}, {f"f{n}": n for n in range(21)}, {"": 1}, [1]],
)
def test_a_context_is_small_and_flat(context: Any) -> None:
    with pytest.raises(RequestError, match="context"):
        parse(json.dumps({"context": context}).encode(), RecommendRequest)


def test_a_context_keeps_its_types() -> None:
    body = b'{"context": {"market": "de", "first": true, "hour": 7, "share": 0.5}}'
    assert parse(body, RecommendRequest).context == {"market": "de", "first": True, "hour": 7, "share": 0.5}
