"""Lists that are drawn at random, item by item, and the exact chance of each draw.

What is logged with these chances can be judged later as if another policy had chosen (inverse propensity
weights). The chance of an item is the one of its draw: that it came next, given the items before it. The
chance of the list is their product.

Shapes: K items to draw from, k drawn.
"""

from typing import NamedTuple

import numpy as np

from recray.arrays import Float64s, Int64s


class Drawn(NamedTuple):
    """The first items of a list."""

    places_k: Int64s  # among the K items, in the order of the draws
    chances_k: Float64s  # of each draw, given those before it


def plackett_luce(logits_K: Float64s, k: int, rng: np.random.Generator) -> Drawn:
    """Each next item with a chance in proportion to exp(logit), among those that are left.

    Drawn by the Gumbel-max trick: Plackett, The Analysis of Permutations, Applied Statistics 1975; Kool, van
    Hoof & Welling, Stochastic Beams and Where to Find Them, ICML 2019, equation 4,
    https://arxiv.org/abs/1903.06059.

    Args:
        logits_K: finite.
    """
    order_K = np.argsort(-(logits_K + rng.gumbel(size=len(logits_K))), kind="stable")
    return Drawn(order_K[:k], plackett_luce_chances(logits_K, order_K[:k]))


def plackett_luce_chances(logits_K: Float64s, places_k: Int64s) -> Float64s:
    """The chance of each draw of a list, given those before it."""
    drawn_k = logits_K[places_k]
    is_left_K = np.ones(len(logits_K), bool)
    is_left_K[places_k] = False
    # Summed from the end: what is left is never a difference of two large numbers.
    rest = np.logaddexp.reduce(logits_K[is_left_K])
    left_k = np.logaddexp.accumulate(np.append(rest, drawn_k[::-1]))[:0:-1]
    chances_k: Float64s = np.exp(drawn_k - left_k)
    return chances_k


def epsilon_greedy_chances(num_items: int, places_k: Int64s, epsilon: float) -> Float64s:
    """The chance of each draw of a list, given those before it."""
    left = list(range(num_items))
    chances: list[float] = []
    for place in places_k.tolist():
        chances.append(epsilon / len(left) + (1.0 - epsilon if place == left[0] else 0.0))
        left.remove(place)
    return np.array(chances)


def epsilon_greedy(num_items: int, k: int, epsilon: float, rng: np.random.Generator) -> Drawn:
    """Each next item is the best of those that are left, or, with probability epsilon, any of them.

    The items are in order, best first (Sutton & Barto, Reinforcement Learning, 2nd edition, section 2.2).
    """
    left = list(range(num_items))
    places: list[int] = []
    for _ in range(min(k, num_items)):
        place = int(rng.integers(len(left))) if rng.random() < epsilon else 0
        places.append(left.pop(place))
    places_k = np.array(places, np.int64)
    return Drawn(places_k, epsilon_greedy_chances(num_items, places_k, epsilon))
