"""How likely each rank of a list is looked at, from logs in which chance put like items at different ranks.

A position-based model (Richardson, Dominowska & Ragno, WWW 2007): an item at a rank is clicked as often as
the rank is looked at, times as often as items of its kind are liked.

    clicks(kind, rank) ~ shown(kind, rank) examined(rank) liked(kind)

Kinds are what chance does not know more about: the items themselves where several rankers or exploration put
them at different ranks (intervention harvesting: Agarwal et al., Estimating position bias without intrusive
interventions, WSDM 2019), or items of about the same score where lists are drawn around the order of scores.
Both factors are fitted together, by maximum likelihood of counts (iterative proportional fitting).

Shapes: N shown items, U users, R ranks, S kinds.
"""

from typing import NamedTuple

import numpy as np

from recray.arrays import Bools, Float64s, Int64s
from recray.config import ConfigError

STEPS, CLOSE = 500, 1e-9
RESAMPLES = 100
LEAST_CLICKS = 5  # at a rank


class PositionBias(NamedTuple):
    """Relative to the first rank, which is 1."""

    examined_R: Float64s
    low_R: Float64s  # 95 %, over users
    high_R: Float64s


def position_bias(
    kinds_N: Int64s, ranks_N: Int64s, clicked_N: Bools, user_ids_N: Int64s, *, seed: int = 0
) -> PositionBias:
    """
    Args:
        kinds_N: any numbers.
        ranks_N: from 1 on.
    Raises:
        ConfigError: too few clicks at a rank, or no kind is shown at two ranks.
    """
    if not len(ranks_N):
        raise ConfigError("nothing was shown: what is looked at cannot be told")
    _, kind_N = np.unique(kinds_N, return_inverse=True)
    rank_N = ranks_N - 1
    shape = int(kind_N.max()) + 1, int(rank_N.max()) + 1
    cell_N = kind_N * shape[1] + rank_N
    shown_SR, clicks_SR = _counts(cell_N, np.ones(len(cell_N)), shape), _counts(cell_N, clicked_N, shape)
    _require(shown_SR, clicks_SR)
    examined_R = _fitted(shown_SR, clicks_SR)
    _, user_N = np.unique(user_ids_N, return_inverse=True)
    users, rng, drawn = int(user_N.max()) + 1, np.random.default_rng(seed), list[Float64s]()
    for _ in range(RESAMPLES):
        times_N = np.bincount(rng.integers(users, size=users), minlength=users)[user_N]
        drawn.append(_fitted(_counts(cell_N, times_N, shape), _counts(cell_N, times_N * clicked_N, shape)))
    low_R, high_R = np.nanquantile(np.array(drawn), [0.025, 0.975], axis=0)
    return PositionBias(examined_R, low_R, high_R)


def _counts(cell_N: Int64s, weights_N: Bools | Int64s | Float64s, shape: tuple[int, int]) -> Float64s:
    counts = np.bincount(cell_N, weights=weights_N, minlength=shape[0] * shape[1])
    return counts.astype(np.float64).reshape(shape)


def _require(shown_SR: Float64s, clicks_SR: Float64s) -> None:
    few = np.flatnonzero(clicks_SR.sum(axis=0) < LEAST_CLICKS) + 1
    if len(few):
        raise ConfigError(
            f"ranks {', '.join(map(str, few[:5]))} have fewer than {LEAST_CLICKS} clicks: log more, or look "
            "at shorter lists"
        )
    joined = np.zeros(shown_SR.shape[1], bool)
    joined[0], before = True, 0
    while joined.sum() > before:  # ranks that share a kind with one that is joined
        before = int(joined.sum())
        joined |= (shown_SR[(shown_SR[:, joined] > 0).any(axis=1)] > 0).any(axis=0)
    if not joined.all():
        raise ConfigError(
            "nothing is shown both at the first rank and, step by step, at the others: let chance into the "
            "lists (--service.rules.explore.policy plackett_luce), or compare several rankers"
        )


def _fitted(shown_SR: Float64s, clicks_SR: Float64s) -> Float64s:
    """examined_R where the clicks of each rank and of each kind are those that are expected."""
    clicks_R, clicks_S = clicks_SR.sum(axis=0), clicks_SR.sum(axis=1)
    examined_R = np.ones(shown_SR.shape[1])
    for _ in range(STEPS):
        before_R, seen_S = examined_R, shown_SR @ examined_R
        liked_S = np.divide(clicks_S, seen_S, where=seen_S > 0, out=np.zeros(len(seen_S)))
        expected_R = liked_S @ shown_SR
        examined_R = np.divide(clicks_R, expected_R, where=expected_R > 0, out=np.zeros(len(clicks_R)))
        examined_R = examined_R / examined_R[0] if examined_R[0] else np.full(len(clicks_R), np.nan)
        if not np.isfinite(examined_R).all() or np.abs(examined_R - before_R).max() < CLOSE:
            break
    return examined_R
