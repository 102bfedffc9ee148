"""What another order would have earned, item by item: by how much is seen of a place in an order.

Lists are drawn around an order, and what is clicked depends on the item and on whether its rank is looked at
(a position-based model). Then an item is seen as much as its place in the order has it seen, whatever stands
beside it, and a click counts as much more as the other order would have had the item seen more (the item-
position model of Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay & Wen, Offline evaluation of ranking
policies with click models, KDD 2018). Weights do not multiply down a list: of whole lists a log tells more
than by ``estimators``, and takes more for granted. They are cut at ``MOST_WEIGHT``,
and the sum is divided by what it weighs (Swaminathan & Joachims, The self-normalized estimator for
counterfactual learning, NIPS 2015), so that what the log never or hardly shows is taken to be liked as much
as what both orders have high up: estimates lie high, the more the further orders are apart (docs/loop.md).

Shapes: B lists, K ranks, P places in an order.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from recray.arrays import Float64s, Int64s
from recray.eval.bootstrap import NUM_RESAMPLES, Interval
from recray.eval.off_policy.estimate import NoSupportError, require_effective, require_users

MOST_WEIGHT = 3.0
LEAST_COVERED = 0.5  # of what the other order would have had seen


@dataclass(frozen=True, kw_only=True)
class OrderedLists:
    """Lists that were drawn around one order, and where their items stand in another one."""

    user_ids_B: Int64s
    rewards_BK: Float64s
    examined_BK: Float64s
    """How likely the rank is looked at at which an item stood; 0 where a list has ended."""
    served_BK: Int64s
    """Place in the order that was drawn from."""
    other_BK: Int64s
    """Place in the other one; -1: it is not there."""

    def __len__(self) -> int:
        return len(self.user_ids_B)


class Earned(NamedTuple):
    """Of a list; intervals are of 95 %, over users."""

    served: float
    other: Interval
    gain: Interval
    effective_lists: float  # of the other order that say as much


def seen_at(lists: OrderedLists, times_B: Float64s | None = None) -> Float64s:
    """seen_P: how much is seen of each place of an order that is drawn from, by the log itself; falling.

    Args:
        times_B: how often each list counts; None: once.
    Raises:
        NoSupportError: nothing that was shown stands in the order.
    """
    in_order = lists.served_BK >= 0
    if not in_order.any():
        raise NoSupportError("the lists were drawn from another order than production has now")
    seen_BK = lists.examined_BK if times_B is None else lists.examined_BK * times_B[:, None]
    seen_P = np.bincount(lists.served_BK[in_order], weights=seen_BK[in_order]) / len(lists)
    falling_P: Float64s = isotonic_regression(seen_P, increasing=False).x
    return falling_P


def earned_by_exposure(
    lists: OrderedLists, covered: float, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Earned:
    """What the other order would have earned. Intervals are percentiles of samples of users, in each of which
    the places are seen as much as there.

    Args:
        covered: share of what the other order would have had seen that the log can show.
    Raises:
        NoSupportError: the log cannot tell, and why.
    """
    require_users(lists.user_ids_B)
    if covered < LEAST_COVERED:
        raise NoSupportError(
            f"of what the other order would have seen the log can show {covered:.0%}, and "
            f"{LEAST_COVERED:.0%} are needed: explore more widely"
        )
    once_B = np.ones(len(lists))
    effective = _effective(lists, _weights(lists, once_B))
    require_effective(effective, len(lists))
    served, other = _earned(lists, once_B)
    _, user_B = np.unique(lists.user_ids_B, return_inverse=True)
    users, rng = int(user_B.max()) + 1, np.random.default_rng(seed)
    drawn_R2 = np.array(
        [
            _earned(
                lists,
                np.bincount(rng.integers(users, size=users), minlength=users)[user_B].astype(np.float64),
            )
            for _ in range(num_resamples)
        ]
    )
    ends = np.quantile(np.c_[drawn_R2[:, 1], drawn_R2[:, 1] - drawn_R2[:, 0]], [0.025, 0.975], axis=0)
    of_other, of_gain = ends.T.tolist()
    return Earned(served, Interval(other, *of_other), Interval(other - served, *of_gain), effective)


def _earned(lists: OrderedLists, times_B: Float64s) -> tuple[float, float]:
    """Of a list, in both orders; each list counts so many times."""
    weights_BK, number = _weights(lists, times_B), float(times_B.sum())
    rewards_BK, seen_BK = lists.rewards_BK * times_B[:, None], lists.examined_BK * times_B[:, None]
    of_what_is_seen = float((weights_BK * rewards_BK).sum()) / float((weights_BK * seen_BK).sum())
    return float(rewards_BK.sum()) / number, of_what_is_seen * float(seen_BK.sum()) / number


def _effective(lists: OrderedLists, weights_BK: Float64s) -> float:
    """Kish's size of a sample, by what was seen."""
    weighed_BK = weights_BK * lists.examined_BK
    squares = float((weights_BK * weighed_BK).sum()) * float(lists.examined_BK.sum())
    return float(weighed_BK.sum()) ** 2 / squares * len(lists) if squares else 0.0


def _weights(lists: OrderedLists, times_B: Float64s) -> Float64s:
    """weights_BK: how much more the other order has each item seen."""
    seen_P = np.append(seen_at(lists, times_B), 0.0)
    last = len(seen_P) - 1  # of what is not in an order, or further down than was ever drawn
    served_BK, other_BK = (
        seen_P[np.where((places_BK < 0) | (places_BK > last), last, places_BK)]
        for places_BK in (lists.served_BK, lists.other_BK)
    )
    ratios_BK = np.divide(other_BK, served_BK, where=served_BK > 0, out=np.zeros(served_BK.shape))
    weights_BK: Float64s = np.minimum(ratios_BK, MOST_WEIGHT)
    return weights_BK
