"""How sure a mean over users is: bootstrap intervals and a paired randomisation test.

Users are the sampling unit (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13:
percentile interval; Smucker, Allan & Carterette, CIKM 2007, for the randomisation test). Everything
is drawn from a seed and computed in blocks, so the cost in memory does not grow with the resamples.

Shapes: U users, M metrics, R resamples.
"""

from typing import NamedTuple

import numpy as np

from recray.arrays import Float64s

NUM_RESAMPLES = 1000
NUM_FLIPS = 10_000
_BLOCK_CELLS = 2**22  # users x resamples drawn together


class Interval(NamedTuple):
    """A mean over users and its 95 % interval."""

    mean: float
    low: float  # NaN where an interval has no meaning (a property of all lists together, as coverage)
    high: float


def bootstrap_means(values_UM: Float64s, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Float64s:
    """Means of ``num_resamples`` samples of U users, drawn with replacement: float64 [R, M].

    All metrics share the same samples, so that differences between columns are paired.
    """
    num_users, num_metrics = values_UM.shape
    rng = np.random.default_rng(seed)
    means_RM = np.empty((num_resamples, num_metrics))
    rows = max(1, _BLOCK_CELLS // num_users)
    for start in range(0, num_resamples, rows):
        block_RM = means_RM[start : start + rows]
        draws_RU = rng.integers(num_users, size=(len(block_RM), num_users), dtype=np.int32)
        draws_RU += np.arange(len(block_RM), dtype=np.int32)[:, None] * num_users
        times_RU = np.bincount(draws_RU.ravel(), minlength=draws_RU.size).reshape(draws_RU.shape)
        block_RM[:] = times_RU.astype(np.float64) @ values_UM / num_users
    return means_RM


def intervals(values_UM: Float64s, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> list[Interval]:
    """Mean and 95 % percentile interval of each column."""
    means_RM = bootstrap_means(values_UM, num_resamples=num_resamples, seed=seed)
    low_M, high_M = np.quantile(means_RM, [0.025, 0.975], axis=0)
    return [Interval(*map(float, row)) for row in zip(values_UM.mean(axis=0), low_M, high_M, strict=True)]


def sign_flip_p_value(differences_U: Float64s, *, num_flips: int = NUM_FLIPS, seed: int = 0) -> float:
    """Two-sided p-value of "the mean difference is 0": Fisher's randomisation test for pairs.

    If two systems are alike, each user's difference is as likely to have the other sign. The p-value
    is the share of random sign patterns (the observed one counted in) whose mean is as far from 0.
    """
    values_U = differences_U[differences_U != 0]
    if len(values_U) == 0:
        return 1.0
    rng = np.random.default_rng(seed)
    total = values_U.sum()
    # Sum over flipped users leaves total - 2 * flipped; a hair of slack keeps equal sums equal.
    limit = abs(total) - 1e-9 * np.abs(values_U).sum()
    rows = max(1, _BLOCK_CELLS // len(values_U))
    as_far = 0
    for start in range(0, num_flips, rows):
        size = (min(rows, num_flips - start), -(-len(values_U) // 8))
        bits_RU = np.unpackbits(rng.integers(256, size=size, dtype=np.uint8), axis=1)[:, : len(values_U)]
        as_far += int((np.abs(total - 2 * (bits_RU.astype(np.float64) @ values_U)) >= limit).sum())
    return (as_far + 1) / (num_flips + 1)
