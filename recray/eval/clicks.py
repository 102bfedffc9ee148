"""How good the probability of a click is: AUC, logloss, normalised entropy, calibration, with intervals.

Over rows n with label y_n, logit x_n and p_n = 1 / (1 + exp(-x_n)); c is the mean label:

* auc = share of (click, no click) pairs in the right order, a tie counting one half: the Mann-Whitney
  statistic, Fawcett, An Introduction to ROC Analysis, 2006
* logloss = -mean_n [y_n log p_n + (1 - y_n) log(1 - p_n)], in nats
* normalised_entropy = logloss / -[c log c + (1 - c) log(1 - c)]: 1 is what knowing c alone gives; lower is
  better. He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014, equation 1
* calibration = mean_n p_n / c: 1 is right, more is too sure (the same paper, section 2)

Intervals are percentile bootstraps over what was drawn independently: users where one user has many
rows, else rows. Runs with several seeds are averaged within each resample.

Shapes: N rows, U units of resampling, R resamples, M metrics, G groups of tied scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recray.arrays import Float64s, Int64s
from recray.config import ConfigError
from recray.eval.bootstrap import NUM_RESAMPLES, Interval
from recray.eval.protocol import require_same_card
from recray.schema import DataError, ProtocolCard

METRICS = ("auc", "logloss", "normalised_entropy", "calibration")
BINS, LARGEST_LOGIT = 2**14, 16.0  # of the histogram that workers add up: 0.002 of a logit wide


@dataclass(frozen=True, kw_only=True)
class ClickEvaluation:
    """What one run predicted for rows whose labels are known, and under which protocol."""

    card: ProtocolCard
    logits_N: Float64s
    labels_N: Float64s  # 0 or 1
    units_N: Int64s  # rows of one unit are resampled together: user ids, or 0 .. N - 1

    def __post_init__(self) -> None:
        _check(torch.from_numpy(self.logits_N), torch.from_numpy(self.labels_N))
        if not 0 < self.labels_N.mean() < 1:
            raise DataError(f"{len(self.labels_N)} rows of one label only: there is nothing to tell apart")

    def means(self) -> dict[str, float]:
        """Every metric over all rows."""
        return dict(zip(METRICS, self.weighted(np.ones_like(self.labels_N)).tolist(), strict=True))

    def summary(self, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> dict[str, Interval]:
        """Every metric with its 95 % bootstrap interval over units."""
        return summary([self], num_resamples=num_resamples, seed=seed)

    def weighted(self, weights_N: Float64s) -> Float64s:
        """The metrics with each row counted so many times: float64 [M]."""
        clicks, total = weights_N @ self.labels_N, weights_N.sum()
        auc = self._ties.auc(weights_N, self.labels_N)
        loss = weights_N @ self._losses_N / total
        return np.array(
            [auc, loss, loss / _entropy(clicks / total), weights_N @ self._probabilities_N / clicks]
        )

    @cached_property
    def _losses_N(self) -> Float64s:
        logits_N, labels_N = torch.from_numpy(self.logits_N), torch.from_numpy(self.labels_N)
        losses_N: Float64s = _losses(logits_N, labels_N).numpy()
        return losses_N

    @cached_property
    def _probabilities_N(self) -> Float64s:
        probabilities_N: Float64s = torch.from_numpy(self.logits_N).sigmoid().numpy()
        return probabilities_N

    @cached_property
    def _ties(self) -> "_Ties":
        order_N = np.argsort(self.logits_N, kind="stable")
        return _Ties(order_N, np.flatnonzero(np.diff(self.logits_N[order_N], prepend=-np.inf)))


class _Ties(NamedTuple):
    """Rows by score, lowest first, and where each group of equal scores begins."""

    order_N: Int64s
    starts_G: Int64s

    def auc(self, weights_N: Float64s, labels_N: Float64s) -> float:
        clicks_N = weights_N * labels_N
        clicks_G = np.add.reduceat(clicks_N[self.order_N], self.starts_G)
        others_G = np.add.reduceat((weights_N - clicks_N)[self.order_N], self.starts_G)
        return _auc(clicks_G, others_G)


def _auc(clicks_G: Float64s, others_G: Float64s) -> float:
    """From the weight of both labels in each group of tied scores, lowest score first."""
    below_G = np.cumsum(others_G) - others_G / 2
    return float(clicks_G @ below_G / (clicks_G.sum() * others_G.sum()))


def _entropy(rate: float) -> float:
    return float(-(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))


def _losses(logits_N: Tensor, labels_N: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits_N, labels_N, reduction="none")


def _check(logits_N: Tensor, labels_N: Tensor) -> None:
    if logits_N.isnan().any():
        raise DataError(f"{int(logits_N.isnan().sum())} of {len(logits_N)} scores are NaN")
    strange_N = labels_N[(labels_N != 0) & (labels_N != 1)]
    if len(strange_N):
        raise DataError(f"a click is 0 or 1, a label is {float(strange_N[0])}: binarise grades first")


def summary(
    runs: Sequence[ClickEvaluation], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Every metric, averaged over runs (seeds) of one model, with its 95 % interval.

    Raises:
        ConfigError: no runs, or runs under different cards or over different rows.
    """
    values_RM = _resampled(runs, num_resamples, seed)
    low_M, high_M = np.quantile(values_RM, [0.025, 0.975], axis=0)
    mean_M = _mean(runs)
    return {
        name: Interval(float(mean_M[m]), float(low_M[m]), float(high_M[m])) for m, name in enumerate(METRICS)
    }


def difference(
    a: Sequence[ClickEvaluation],
    b: Sequence[ClickEvaluation],
    metric: str,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """``a - b`` on the same rows, both averaged over their runs, with its paired 95 % interval.

    Raises:
        ConfigError: as ``summary``, or no such metric.
    """
    if metric not in METRICS:
        raise ConfigError(f"no metric {metric!r}; there is {', '.join(METRICS)}")
    _require_same_rows([*a, *b])
    m = METRICS.index(metric)
    # Equal seeds draw equal resamples, so the differences are paired.
    gaps_R = _resampled(a, num_resamples, seed)[:, m] - _resampled(b, num_resamples, seed)[:, m]
    low, high = np.quantile(gaps_R, [0.025, 0.975])
    return Interval(float(_mean(a)[m] - _mean(b)[m]), float(low), float(high))


def _mean(runs: Sequence[ClickEvaluation]) -> Float64s:
    mean_M: Float64s = np.mean([run.weighted(np.ones_like(run.labels_N)) for run in runs], axis=0)
    return mean_M


def _resampled(runs: Sequence[ClickEvaluation], num_resamples: int, seed: int) -> Float64s:
    """values_RM, averaged over runs; a resample without both labels repeats the draw."""
    _require_same_rows(runs)
    unit_N = np.unique(runs[0].units_N, return_inverse=True)[1]
    num_units = int(unit_N.max()) + 1
    rng = np.random.default_rng(seed)
    rows: list[Float64s] = []
    while len(rows) < num_resamples:
        times_U = np.bincount(rng.integers(num_units, size=num_units), minlength=num_units)
        weights_N = times_U[unit_N].astype(np.float64)
        if 0 < weights_N @ runs[0].labels_N < weights_N.sum():
            rows.append(np.mean([run.weighted(weights_N) for run in runs], axis=0))
    return np.stack(rows)


def _require_same_rows(runs: Sequence[ClickEvaluation]) -> None:
    if not runs:
        raise ConfigError("no runs to measure")
    first = runs[0]
    for run in runs[1:]:
        require_same_card(first.card, run.card)
        same = np.array_equal(first.labels_N, run.labels_N) and np.array_equal(first.units_N, run.units_N)
        if not same:
            raise ConfigError(
                f"measured over different rows, not comparable: {len(first.labels_N)} and {len(run.labels_N)}"
                " rows whose labels or users differ; keep the order of the data"
            )


def click_sums(logits_B: Tensor, labels_B: Tensor) -> Tensor:
    """What ``metrics_of_sums`` needs of some rows: add up over batches and over workers.

    Returns:
        float64 [2, BINS + 2], of rows without and with a click: how many in each bin of the logit, then the
        sum of their losses and of their probabilities.
    """
    _check(logits_B, labels_B)
    logits_B, labels_B = logits_B.double(), labels_B.double()
    bin_B = ((logits_B / LARGEST_LOGIT + 1) / 2 * BINS).long().clamp(0, BINS - 1)
    sums_2 = logits_B.new_zeros(2, BINS + 2)
    one_B, label_B = torch.ones_like(logits_B), labels_B.long()
    for column_B, values_B in (
        (bin_B, one_B),
        (torch.full_like(bin_B, BINS), _losses(logits_B, labels_B)),
        (torch.full_like(bin_B, BINS + 1), logits_B.sigmoid()),
    ):
        sums_2.index_put_((label_B, column_B), values_B, accumulate=True)
    return sums_2


def metrics_of_sums(sums_2: Tensor) -> dict[str, float]:
    """The metrics of all rows that were added up; ``auc`` takes scores of one bin for ties.

    NaN where one of the labels is missing.
    """
    others_G, clicks_G = sums_2[:, :BINS].cpu().numpy()
    clicks, total = clicks_G.sum(), clicks_G.sum() + others_G.sum()
    if not 0 < clicks < total:
        return dict.fromkeys(METRICS, float("nan"))
    loss_sum, probability_sum = sums_2[:, BINS:].sum(0).tolist()
    loss = loss_sum / total
    values = (_auc(clicks_G, others_G), loss, loss / _entropy(clicks / total), probability_sum / clicks)
    return dict(zip(METRICS, map(float, values), strict=True))
