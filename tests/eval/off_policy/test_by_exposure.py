"""Another order judged by how much is seen of its places: by hand, and in a world whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from recray.arrays import Float64s, Int64s
from recray.eval.off_policy.by_exposure import MOST_WEIGHT, OrderedLists, earned_by_exposure, seen_at
from recray.eval.off_policy.estimate import NoSupportError
from recray.ops.exploration import plackett_luce

EXAMINED_K = 0.6 ** np.arange(5)
PLACES = 20


def drawn(other_P: Int64s, liked_P: Float64s, *, lists: int, seed: int) -> OrderedLists:
    """Around an order of ``PLACES`` items, one user each.

    Args:
        other_P: where the item at each place stands in the other order.
    """
    rng, logits = np.random.default_rng(seed), -np.arange(PLACES) / 3.0
    served_BK = np.array([plackett_luce(logits, 5, rng).places_k for _ in range(lists)])
    clicked_BK = rng.random(served_BK.shape) < EXAMINED_K * liked_P[served_BK]
    examined_BK = np.tile(EXAMINED_K, (lists, 1))
    return OrderedLists(
        user_ids_B=np.arange(lists),
        rewards_BK=clicked_BK.astype(np.float64),
        examined_BK=examined_BK,
        served_BK=served_BK,
        other_BK=other_P[served_BK],
    )


def test_it_is_what_a_slow_loop_says() -> None:
    lists = drawn(np.random.default_rng(1).permutation(PLACES), np.full(PLACES, 0.4), lists=400, seed=0)
    seen_P = seen_at(lists).tolist()
    assert seen_P == sorted(seen_P, reverse=True)
    assert sum(seen_P) == pytest.approx(EXAMINED_K.sum())
    over = under = seen = 0.0
    for b in range(len(lists)):
        for served, other, clicks, examined in zip(
            lists.served_BK[b], lists.other_BK[b], lists.rewards_BK[b], lists.examined_BK[b], strict=True
        ):
            there = seen_P[other] if other < len(seen_P) else 0.0
            weight = min(there / seen_P[served], MOST_WEIGHT)
            over, under, seen = over + weight * clicks, under + weight * examined, seen + examined
    found = earned_by_exposure(lists, covered=1.0)
    assert found.other.mean == pytest.approx(over / under * seen / 400)
    assert found.served == pytest.approx(lists.rewards_BK.sum() / 400)
    assert found.gain.mean == pytest.approx(found.other.mean - found.served)
    assert found.other.low < found.other.mean < found.other.high
    assert 100 < found.effective_lists < 400


@pytest.mark.parametrize("better", [True, False])
def test_in_a_world_that_is_known_the_interval_holds_the_truth(better: bool) -> None:
    neighbours_P = np.arange(PLACES) ^ 1  # two and two change places
    liked_P = 0.2 + 0.6 * (np.arange(PLACES) % 2 == better)  # of two one is liked four times as much
    lists = drawn(neighbours_P, liked_P, lists=1_000, seed=2)
    gain = earned_by_exposure(lists, covered=1.0).gain
    seen_P = seen_at(drawn(neighbours_P, liked_P, lists=9_000, seed=3))
    truth = float(seen_P @ (liked_P[neighbours_P] - liked_P))
    assert gain.low <= truth <= gain.high
    assert (gain.low > 0, gain.high < 0) == (better, not better)
    same = replace(lists, other_BK=lists.served_BK)
    assert earned_by_exposure(same, covered=1.0, num_resamples=9).gain == pytest.approx(
        (0.0, 0.0, 0.0), abs=1e-12
    )


@pytest.mark.parametrize(
    ("covered", "lists", "shift", "why"),
    [
        (0.4, 400, 0, "the log can show 40%, and 50% are needed"),
        (1.0, 20, 0, "20 users are too few"),
        (1.0, 110, 8, "and 100 are needed"),
    ],
)
def test_what_the_log_cannot_tell_is_refused(covered: float, lists: int, shift: int, why: str) -> None:
    order_P = (np.arange(PLACES) + shift) % PLACES
    with pytest.raises(NoSupportError, match=why):
        earned_by_exposure(drawn(order_P, np.full(PLACES, 0.4), lists=lists, seed=4), covered)


def test_lists_of_another_order_are_refused() -> None:
    lists = drawn(np.arange(PLACES), np.full(PLACES, 0.4), lists=40, seed=5)
    with pytest.raises(NoSupportError, match="another order"):
        seen_at(replace(lists, served_BK=np.full_like(lists.served_BK, -1)))
