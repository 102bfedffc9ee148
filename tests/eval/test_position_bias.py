"""What is looked at, by rank: planted, and found again."""

import numpy as np
import pytest

from recray.config import ConfigError
from recray.eval.position_bias import position_bias

RANKS = 6
PLANTED_R = np.arange(1, RANKS + 1) ** -0.8


def logged(
    rng: np.random.Generator, lists: int = 20_000, *, by_chance: float = 1.0
) -> tuple[np.ndarray, ...]:
    """Kinds, ranks, clicks and users; better kinds stand higher, the more so the less chance there is."""
    liked_S = np.linspace(0.6, 0.05, 20)
    order = np.argsort(np.arange(20) / 3.0 + by_chance * rng.gumbel(size=(lists, 20)), axis=1)[:, :RANKS]
    clicked = rng.random(order.shape) < liked_S[order] * PLANTED_R
    users = np.repeat(rng.integers(500, size=lists), RANKS)
    return order.ravel(), np.tile(np.arange(1, RANKS + 1), lists), clicked.ravel(), users


def test_what_was_planted_is_found_and_the_click_rate_is_not_it() -> None:
    kinds_N, ranks_N, clicked_N, users_N = logged(np.random.default_rng(0))
    found = position_bias(kinds_N, ranks_N, clicked_N, users_N)
    assert np.abs(found.examined_R / PLANTED_R - 1).max() < 0.06
    rate_R = np.array([clicked_N[ranks_N == rank].mean() for rank in range(1, RANKS + 1)])
    assert np.abs(rate_R / rate_R[0] / PLANTED_R - 1).max() > 0.1
    assert found.examined_R[0] == 1.0


def test_intervals_hold_what_was_planted() -> None:
    holds = np.zeros(RANKS)
    for seed in range(40):
        found = position_bias(*logged(np.random.default_rng(seed), 1_500))
        holds += (found.low_R <= PLANTED_R) & (found.high_R >= PLANTED_R)
    assert (holds >= 33).all()  # at 95 %, by chance once in thousand


def test_without_chance_it_cannot_be_told() -> None:
    with pytest.raises(ConfigError, match="let chance into the lists"):
        position_bias(*logged(np.random.default_rng(0), by_chance=0.0))
    with pytest.raises(ConfigError, match="ranks 1, 2, 3, 4, 5 have fewer than 5 clicks"):
        position_bias(*logged(np.random.default_rng(0), 3))
    nothing = np.zeros(0, np.int64)
    with pytest.raises(ConfigError, match="nothing was shown"):
        position_bias(nothing, nothing, nothing.astype(bool), nothing)
