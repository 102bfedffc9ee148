"""An estimate of what another policy would have earned: with an interval over users, or refused.

Shapes: B lists, U users, R resamples, P ratios of S = 2P sums.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recray.arrays import Float64s, Int64s
from recray.config import ConfigError
from recray.eval.bootstrap import NUM_RESAMPLES, Interval, bootstrap_means
from recray.eval.off_policy.estimators import Model, Terms, terms
from recray.eval.off_policy.logged_lists import LogCard, LoggedLists

LEAST_EFFECTIVE = 100.0  # lists; with fewer, an interval says less than it seems to
LEAST_USERS = 30  # who are drawn for the interval
SURE = 3.9  # standard errors of the mean weight from 1: by chance one in ten thousand
MOST_UNCOVERED = 0.05  # of its lists; the estimate takes what these would have earned for 0, or for the mean
ROUNDING = 1e-13  # of a sum whose parts cancel
NORMAL = 1.96  # standard errors to either side, in 95 % of a normal distribution
WHOLE_LIST = ("ips", "snips")


class NoSupportError(ConfigError):
    """What was logged says nothing of this policy."""


class Estimate(NamedTuple):
    """The mean reward of a list under a policy that did not choose it."""

    method: str
    reward: Interval  # 95 %, over users
    lists: int
    users: int
    effective_lists: float  # Kish's size of a sample of equal weights that says as much
    largest_weight: float
    card: LogCard


class Signed(NamedTuple):
    sign: float
    terms: Terms  # of a ratio of sums


def estimate(
    lists: LoggedLists,
    method: str = "snrips",
    model: Model | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """
    Args:
        method: one of ``estimators.METHODS``, or of those with a model.
    Raises:
        ConfigError: no such method, or it needs a model.
        NoSupportError: the log cannot tell, and why.
    """
    weights_B = _weights(lists, method)
    effective = _require_support(lists, weights_B)
    found = terms(method, lists, model)
    return Estimate(
        method,
        _interval([Signed(1.0, found)], lists.user_ids_B, num_resamples, seed),
        len(lists),
        len(np.unique(lists.user_ids_B)),
        effective,
        float(weights_B.max()),
        lists.card,
    )


def gain(
    a: LoggedLists,
    b: LoggedLists,
    method: str = "snrips",
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """How much more ``a`` would earn than ``b``: 95 %, the same users drawn for both, from the same lists.

    Raises:
        ConfigError: they are not the same lists, or the rewards are others.
        NoSupportError: the log cannot tell of one of them, and why.
    """
    differing = [
        f"{name}: {one!r} and {other!r}"
        for name, one, other in zip(LogCard._fields, a.card, b.card, strict=True)
        if one != other
    ]
    if differing or len(a) != len(b) or not np.array_equal(a.user_ids_B, b.user_ids_B):
        raise ConfigError(
            f"judged by different lists, not comparable: {'; '.join(differing) or 'their users differ'}"
        )
    for lists in (a, b):
        _require_support(lists, _weights(lists, method))
    signed = [Signed(1.0, terms(method, a)), Signed(-1.0, terms(method, b))]
    return _interval(signed, a.user_ids_B, num_resamples, seed)


def shown(lists: LoggedLists, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
    """What the policy that was served earned: no estimate but a mean."""
    rewards_B = np.where(lists.is_shown_BK, lists.rewards_BK, 0.0).sum(axis=1)
    earned = Signed(1.0, Terms(rewards_B, np.ones(len(lists))))
    return _interval([earned], lists.user_ids_B, num_resamples, seed)


def _weights(lists: LoggedLists, method: str) -> Float64s:
    """Those that the method goes by, of each list: of all of it, or the mean over its places."""
    if len(lists) == 0:
        raise NoSupportError("no list was logged in that time")
    if np.isnan(lists.logged_BK[lists.is_shown_BK]).any():
        raise NoSupportError(
            "lists were shown without chance, so that nothing is known of what others would have earned: "
            "serve with --service.rules.explore.policy plackett_luce or epsilon, and wait"
        )
    if (lists.logged_BK[lists.is_shown_BK] == 0).any():
        raise NoSupportError("the log has items whose chance to be shown was 0: their chances are wrong")
    if method in WHOLE_LIST:
        return lists.list_weights_B
    shown_BK = lists.is_shown_BK
    sums_B = np.where(shown_BK, lists.prefix_weights_BK, 0.0).sum(axis=1)
    weights_B: Float64s = sums_B / np.maximum(shown_BK.sum(axis=1), 1)
    return weights_B


def _require_support(lists: LoggedLists, weights_B: Float64s) -> float:
    """The effective number of lists.

    Where the log can show all that the policy would, weights are 1 in the mean.
    """
    require_users(lists.user_ids_B)
    total = float(weights_B.sum())
    effective = total**2 / float((weights_B**2).sum()) if total else 0.0
    mean = total / len(lists)
    error = float(weights_B.std()) / math.sqrt(len(lists))
    uncovered = 1 - mean - SURE * error
    if uncovered > MOST_UNCOVERED:
        raise NoSupportError(
            f"the policy would show what the log never does: weights are {mean:.2f} in the mean where 1 is "
            f"due, so that at least {uncovered:.0%} of its lists are not covered: explore more widely"
        )
    require_effective(effective, len(lists))
    return effective


def require_users(user_ids_B: Int64s) -> None:
    """
    Raises:
        NoSupportError: too few for an interval.
    """
    if (users := len(np.unique(user_ids_B))) < LEAST_USERS:
        raise NoSupportError(f"{users} users are too few for an interval, {LEAST_USERS} are needed: log more")


def require_effective(effective: float, lists: int) -> None:
    """
    Raises:
        NoSupportError: so many lists say too little of the policy.
    """
    if effective < LEAST_EFFECTIVE:
        raise NoSupportError(
            f"{lists:,} lists say as much of this policy as {effective:.0f} of its own would, and "
            f"{LEAST_EFFECTIVE:.0f} are needed: log more, explore more, or judge shorter lists"
        )


def _interval(signed: Sequence[Signed], user_ids_B: Int64s, num_resamples: int, seed: int) -> Interval:
    """The sum of signed ratios of sums, and its 95 % interval: users are drawn, each with all its lists.

    Bootstrap-t (Efron & Tibshirani 1993, section 12.5): weights are skewed, and what draws leave out of their
    tail makes the error look small at the same time as the estimate. The skew makes an end longer than that
    of a normal distribution, never shorter: it is known by the few lists of the tail alone.
    """
    _, user_B = np.unique(user_ids_B, return_inverse=True)
    sums_US: Float64s = np.stack(
        [np.bincount(user_B, weights=values_B) for one in signed for values_B in one.terms], axis=1
    )
    if not sums_US[:, 1::2].sum(axis=0).all():
        return Interval(math.nan, math.nan, math.nan)
    one, other = np.triu_indices(sums_US.shape[1])
    moments_UM = np.concatenate([sums_US, sums_US[:, one] * sums_US[:, other]], axis=1)
    signs = np.array([one.sign for one in signed])
    (value,), (error,) = _sum_of_ratios(moments_UM.mean(axis=0)[None], signs, len(sums_US))
    drawn_RM = bootstrap_means(moments_UM, num_resamples=num_resamples, seed=seed)
    values_R, errors_R = _sum_of_ratios(drawn_RM, signs, len(sums_US))
    with np.errstate(invalid="ignore", divide="ignore"):
        far_R = (values_R - value) / errors_R
    low, high = np.quantile(far_R[np.isfinite(far_R)], [0.025, 0.975]) if error > 0 else (0.0, 0.0)
    down, up = max(high, NORMAL) * error, max(-low, NORMAL) * error
    return Interval(float(value), float(value - down), float(value + up))


def _sum_of_ratios(means_RM: Float64s, signs: Float64s, users: int) -> tuple[Float64s, Float64s]:
    """Of means over users of S sums and of their products, and its standard error (linearised)."""
    num_sums = 2 * len(signs)
    over_RP, under_RP = means_RM[:, 0:num_sums:2], means_RM[:, 1:num_sums:2]
    ratio_RP = over_RP / under_RP
    gradient_RS = np.empty((len(means_RM), num_sums))
    gradient_RS[:, 0::2], gradient_RS[:, 1::2] = signs / under_RP, -signs * ratio_RP / under_RP
    one, other = np.triu_indices(num_sums)
    twice = np.where(one == other, 1.0, 2.0)
    parts_RM = twice * gradient_RS[:, one] * gradient_RS[:, other] * means_RM[:, num_sums:]
    spread_R = parts_RM.sum(axis=1)
    spread_R[spread_R < ROUNDING * np.abs(parts_RM).sum(axis=1)] = 0.0  # a policy beside itself
    return ratio_RP @ signs, np.sqrt(spread_R / users)
