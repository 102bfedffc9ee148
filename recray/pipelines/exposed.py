"""Versions compared by lists that were drawn: what each has seen of the items that were shown.

Shapes: B lists, K ranks, P places in an order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recray.arrays import Float64s, Int64s
from recray.eval.off_policy.by_exposure import Earned, OrderedLists, earned_by_exposure, seen_at
from recray.eval.off_policy.estimate import NoSupportError
from recray.pipelines.off_policy import AskedAgain, padded
from recray.pipelines.replay import Order


class ByExposure(NamedTuple):
    """Items of a list with an outcome, by so many lists."""

    earned: Earned  # served: production; other: candidate
    lists: int


def by_exposure(again: AskedAgain, examined: Sequence[float]) -> ByExposure:
    """
    Args:
        examined: how likely each rank is looked at, from the first on; the last holds for all below.
    Raises:
        NoSupportError: the log cannot tell, and why.
    """
    if not examined:
        raise NoSupportError("how much is looked at each rank is not known")
    items, length = again.lists["items"].to_list(), again.length
    by_rank = [examined[min(rank, len(examined) - 1)] for rank in range(length)]
    ordered = OrderedLists(
        user_ids_B=again.user_ids_B,
        rewards_BK=padded([list(map(float, each)) for each in again.lists["outcomes"].to_list()], length),
        examined_BK=padded([by_rank[: len(each)] for each in items], length),
        served_BK=_places(again.production, items, length),
        other_BK=_places(again.candidate, items, length),
    )
    covered = _covered(again, seen_at(ordered))
    return ByExposure(earned_by_exposure(ordered, covered), len(ordered))


def _places(orders: Sequence[Order], items: Sequence[Sequence[str]], length: int) -> Int64s:
    """places_BK; -1: not in the order, or the list has ended."""
    places_BK = np.full((len(items), length), -1, np.int64)
    for row_K, order, shown in zip(places_BK, orders, items, strict=True):
        place_of = {item: place for place, item in enumerate(order.item_ids)}
        row_K[: len(shown)] = [place_of.get(item, -1) for item in shown]
    return places_BK


def _covered(again: AskedAgain, seen_P: Float64s) -> float:
    """Of what the candidate would have seen, the share that is among what production draws from."""
    drawn_from = np.flatnonzero(seen_P)[-1] + 1
    found = [
        seen
        for one, other in zip(again.production, again.candidate, strict=True)
        for among in [frozenset(one.item_ids[:drawn_from])]
        for item, seen in zip(other.item_ids, seen_P.tolist(), strict=False)
        if item in among
    ]
    return float(sum(found) / (seen_P.sum() * len(again.lists)))
