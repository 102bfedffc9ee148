"""Chances of drawn lists: against every list there is, and against how often each is drawn."""

from collections import Counter
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest

from recray.ops.exploration import Drawn, epsilon_greedy, plackett_luce, plackett_luce_chances

DRAWS = 20_000
SCORES_K = np.array([2.0, 1.0, 0.5, -1.0, 0.5])

Policy = Callable[[int, np.random.Generator], Drawn]


def by_scores(temperature: float) -> Policy:
    return lambda k, rng: plackett_luce(SCORES_K / temperature, k, rng)


def slow_plackett_luce(places: tuple[int, ...], temperature: float) -> float:
    """The chance of a list, factor by factor as the model is written."""
    weights = [float(np.exp(score / temperature)) for score in SCORES_K]
    chance, left = 1.0, set(range(len(weights)))
    for place in places:
        chance *= weights[place] / sum(weights[each] for each in left)
        left.remove(place)
    return chance


def slow_epsilon_greedy(places: tuple[int, ...], epsilon: float) -> float:
    chance, left = 1.0, set(range(len(SCORES_K)))
    for place in places:
        chance *= epsilon / len(left) + (1 - epsilon) * (place == min(left))
        left.remove(place)
    return chance


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 7.0])
def test_plackett_luce_is_exact_for_every_list(k: int, temperature: float) -> None:
    logits_K = SCORES_K / temperature
    lists = list(permutations(range(len(SCORES_K)), k))
    chances = [float(plackett_luce_chances(logits_K, np.array(places)).prod()) for places in lists]
    np.testing.assert_allclose(chances, [slow_plackett_luce(p, temperature) for p in lists], rtol=1e-12)
    assert sum(chances) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("policy", "slow"),
    [
        (by_scores(1.0), lambda places: slow_plackett_luce(places, 1.0)),
        (by_scores(0.3), lambda places: slow_plackett_luce(places, 0.3)),
        (lambda k, rng: epsilon_greedy(5, k, 0.3, rng), lambda places: slow_epsilon_greedy(places, 0.3)),
        (lambda k, rng: epsilon_greedy(5, k, 1.0, rng), lambda places: slow_epsilon_greedy(places, 1.0)),
    ],
)
def test_lists_are_drawn_as_often_as_they_say(
    policy: Policy, slow: Callable[[tuple[int, ...]], float]
) -> None:
    rng, k = np.random.default_rng(0), 3
    counted: Counter[tuple[int, ...]] = Counter()
    for _ in range(DRAWS):
        places_k, chances_k = policy(k, rng)
        places = tuple(places_k.tolist())
        assert float(chances_k.prod()) == pytest.approx(slow(places))
        counted[places] += 1
    lists = list(permutations(range(5), k))
    expected = np.array([slow(places) for places in lists])
    assert expected.sum() == pytest.approx(1.0)
    often = np.array([counted[places] for places in lists])
    # Each count is binomial: five standard deviations, and half a count where lists are rare.
    allowed = 5 * np.sqrt(DRAWS * expected * (1 - expected)) + 0.5
    assert (np.abs(often - DRAWS * expected) <= allowed).all()


def test_scores_far_apart_keep_their_chances() -> None:
    chances_k = plackett_luce_chances(np.array([1_000.0, 0.0, -1_000.0]), np.array([0, 1, 2]))
    np.testing.assert_array_equal(chances_k, [1.0, 1.0, 1.0])
    unlikely_k = plackett_luce_chances(np.array([0.0, -30.0, -31.0]), np.array([1, 0, 2]))
    np.testing.assert_allclose(unlikely_k, [np.exp(-30.0) / (1 + np.exp(-30.0) + np.exp(-31.0)), 1.0, 1.0])


def test_no_exploration_is_the_order_itself() -> None:
    rng = np.random.default_rng(0)
    places_k, chances_k = epsilon_greedy(4, 10, 0.0, rng)
    assert places_k.tolist() == [0, 1, 2, 3]
    assert chances_k.tolist() == [1.0] * 4
    assert plackett_luce(np.array([1e3, 3e3, 2e3]), 2, rng).places_k.tolist() == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plackett_luce", "epsilon"])
def test_a_million_draws_are_as_often_as_they_say(name: str) -> None:
    """Pearson's chi-square over all 60 lists of three of five: within five sigmas of its 59 degrees."""
    rng, draws = np.random.default_rng(7), 1_000_000
    policies: dict[str, tuple[Policy, Callable[[tuple[int, ...]], float]]] = {
        "plackett_luce": (by_scores(1.0), lambda places: slow_plackett_luce(places, 1.0)),
        "epsilon": (lambda k, rng: epsilon_greedy(5, k, 0.3, rng), lambda p: slow_epsilon_greedy(p, 0.3)),
    }
    policy, slow = policies[name]
    counted = Counter(tuple(policy(3, rng).places_k.tolist()) for _ in range(draws))
    lists = list(permutations(range(5), 3))
    expected = draws * np.array([slow(places) for places in lists])
    often = np.array([counted[places] for places in lists])
    assert often.sum() == draws
    chi_square = float(((often - expected) ** 2 / expected).sum())
    sigmas = np.abs(often - expected) / np.sqrt(expected * (1 - expected / draws))
    print(f"{name}: chi-square {chi_square:.1f} of 59 degrees, largest deviation {sigmas.max():.2f} sigmas")
    freedom = len(lists) - 1
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)
    assert sigmas.max() < 5
