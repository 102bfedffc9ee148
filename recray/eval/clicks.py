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

Shapes: N rows, U units of resampling, R resamples, M metrics, G groups of tied scores, P points of a tally.
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
HELD_POINTS, JOINED_POINTS = 2**20, 2**16  # of a tally: 40 MB at most, and 2.6 MB to send


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


class ClickTally:
    """The metrics of rows that come batch by batch, in bounded memory; those of several workers join.

    Rows become points: a score, and how many rows without and with a click have it, the sum of their losses
    and of their probabilities. Where there are too many points, neighbours join until each stands for an
    equal share of the rows: ``auc`` takes them for ties, and is off by at most about one over their number,
    whatever the scale of the scores.
    """

    def __init__(self, *, hold: int = HELD_POINTS, join: int = JOINED_POINTS) -> None:
        self._hold, self._join = hold, join
        self._points: list[Float64s] = [np.zeros((0, 5))]
        self._held = 0

    def add(self, logits_B: Tensor, labels_B: Tensor) -> None:
        """
        Raises:
            DataError: NaN scores, or labels that are neither 0 nor 1.
        """
        logits_B, labels_B = logits_B.detach().double().cpu(), labels_B.double().cpu()
        _check(logits_B, labels_B)
        columns = (logits_B, 1 - labels_B, labels_B, _losses(logits_B, labels_B), logits_B.sigmoid())
        self._points.append(torch.stack(columns, dim=1).numpy())
        self._held += len(logits_B)
        if self._held > self._hold:
            self._points = [_joined(np.concatenate(self._points), self._join)]
            self._held = len(self._points[0])

    def points(self) -> Tensor:
        """float64 [join, 5]: all rows so far, of one shape on every worker; points without rows fill it."""
        found = _joined(np.concatenate(self._points), self._join)
        return torch.from_numpy(np.pad(found, ((0, self._join - len(found)), (0, 0))))

    def metrics(self, others: Sequence[Tensor] = ()) -> dict[str, float]:
        """Of all rows so far, and of the points of other workers; NaN where one of the labels is missing."""
        points_P5 = np.concatenate([*self._points, *(each.cpu().numpy() for each in others)])
        _, others_G, clicks_G, losses_G, probabilities_G = _joined(points_P5, len(points_P5)).T
        clicks, total = clicks_G.sum(), clicks_G.sum() + others_G.sum()
        if not 0 < clicks < total:
            return dict.fromkeys(METRICS, float("nan"))
        loss = losses_G.sum() / total
        calibration = probabilities_G.sum() / clicks
        values = (_auc(clicks_G, others_G), loss, loss / _entropy(clicks / total), calibration)
        return dict(zip(METRICS, map(float, values), strict=True))


def _joined(points_P5: Float64s, most: int) -> Float64s:
    """Points by score, one for each score, or ``most`` of about as many rows each."""
    points_P5 = points_P5[np.argsort(points_P5[:, 0], kind="stable")]
    points_P5 = _summed(points_P5, np.flatnonzero(np.diff(points_P5[:, 0], prepend=np.nan) != 0))
    if len(points_P5) <= most:
        return points_P5
    rows_P = points_P5[:, 1] + points_P5[:, 2]
    group_P = ((np.cumsum(rows_P) - rows_P / 2) * (most / rows_P.sum())).astype(np.int64)
    starts_G = np.flatnonzero(np.diff(group_P, prepend=-1))
    joined_G5 = _summed(points_P5, starts_G)
    # A score that many rows share stays what it is, so that it is the same score for every worker.
    heaviest_G = np.lexsort((rows_P, group_P))[np.append(starts_G[1:], len(group_P)) - 1]
    joined_G5[:, 0] = points_P5[heaviest_G, 0]
    return joined_G5


def _summed(points_P5: Float64s, starts_G: Int64s) -> Float64s:
    """One point for each run of points; its score is that of the first."""
    if not len(points_P5):
        return points_P5
    summed_G5: Float64s = np.add.reduceat(points_P5, starts_G, axis=0)
    summed_G5[:, 0] = points_P5[starts_G, 0]
    return summed_G5
