"""Business rules, each against what its words say."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from recray.config import ConfigError
from recray.features.candidates import Candidates
from recray.serve.clock import StageClock
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.query import Query
from recray.serve.rules.diversify import Diversify, DiversityConfig
from recray.serve.rules.explore import Explore, ExploreConfig
from recray.serve.rules.fresh import DAY_S, Fresh, FreshConfig
from recray.serve.rules.listed import Rules
from recray.serve.stages.listed import StagesConfig
from recray.serve.stages.retrieve import retrieved
from recray.serve.stages.shorten import Shorten
from recray.serve.state import RequestState
from recray.serve.versions import open_served
from recray.store import Store
from tests.serve.world import APPLICATION, NOW


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
    for _ in range(DRAWS):
        state = Shorten()(rule(asked))
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
    ],
)
def test_wrong_options_of_exploration_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"explore: {next(iter(options))} must be"):
        ExploreConfig(**options)


def test_answers_say_how_likely_each_draw_was(published: Store) -> None:
    rules = Rules(explore=ExploreConfig(policy="plackett_luce", temperature=3.0, seed=5))
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
