"""What a search of n trials finds, on average: the honest way to compare searches of different lengths."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recray.arrays import Float64s
from recray.pipelines.tune.records import TrialRecord
from recray.pipelines.tune.spaces import Goal


class Expected(NamedTuple):
    """After n = 1 .. N trials."""

    best_N: Float64s  # expected best
    low_N: Float64s  # one standard deviation below and above it, within what was seen
    high_N: Float64s


def expected_best(scores: Sequence[float], goal: Goal) -> Expected:
    """The expected best of n trials out of N, were they drawn alike and in any order.

    With v sorted from worst to best, P(best of n <= v_i) = (i / N)^n: equation 5 of Dodge et al. 2019, "Show
    Your Work" (https://arxiv.org/abs/1909.03004). Of random search it is an estimate; trials that a search
    learnt to choose are not drawn alike, and the estimate is then too good for few trials.
    """
    sign, count = goal.sign(), len(scores)
    v_N = np.sort(sign * np.asarray(scores, np.float64))
    share_N = np.arange(count + 1) / count
    mean_N, std_N = np.empty(count), np.empty(count)
    for n in range(1, count + 1):
        weights_N = np.diff(share_N**n)
        mean_N[n - 1] = weights_N @ v_N
        std_N[n - 1] = np.sqrt(max(0.0, weights_N @ v_N**2 - mean_N[n - 1] ** 2))
    low_N, high_N = np.maximum(mean_N - std_N, v_N[0]), np.minimum(mean_N + std_N, v_N[-1])
    return Expected(sign * mean_N, sign * low_N, sign * high_N)


def by_trial(records: Sequence[TrialRecord], goal: Goal) -> list[float]:
    """A score for every trial: one that measured nothing counts as the worst that was seen."""
    measured = [record.score for record in records if record.score is not None]
    worst = (min if goal.mode == "max" else max)(measured, default=0.0)
    return [worst if record.score is None else record.score for record in records]


def running_best(scores: Sequence[float], goal: Goal) -> Float64s:
    """What was found so far, trial by trial."""
    sign = goal.sign()
    return sign * np.maximum.accumulate(sign * np.asarray(scores, np.float64))
