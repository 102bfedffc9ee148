"""Differences between models where users and seeds are drawn: another seed would have been another model.

A test over users alone asks whether these very weights are better. Whoever chooses a model trains it anew, so
that what differs between seeds belongs to the error.

Shapes: S seeds, U users.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from recray.arrays import Float64s
from recray.config import ConfigError, nearest
from recray.eval.evaluate import Evaluation
from recray.eval.protocol import paired_order, require_same_card


class Part(NamedTuple):
    """One reason why a mean could have been another one."""

    variance: float  # of the mean
    degrees: float


class Runs(NamedTuple):
    """Of one model, a seed each."""

    evaluations: Sequence[Evaluation]
    draws: bool  # whether another seed is another model


class OverSeeds(NamedTuple):
    """A mean, or a difference of two, and its 95 % interval over users and seeds.

    All but the mean is NaN where a model that draws has one run: how much seeds differ by is not known.
    """

    mean: float
    low: float
    high: float
    p_value: float  # two-sided, that it is 0


def of_model(runs: Runs, metric: str) -> OverSeeds:
    """
    Raises:
        ConfigError: no such metric, or they were measured otherwise, or of a single user.
    """
    values_SU = _values(runs, runs.evaluations[0], metric)
    return _found(float(values_SU.mean()), [_users(values_SU.mean(axis=0)), _seeds(values_SU, runs)])


def difference(a: Runs, b: Runs, metric: str) -> OverSeeds:
    """How much more ``a`` has: users are paired, seeds are not.

    The error adds that of users (of the difference of means over seeds) and that of each model's seeds; the
    degrees of freedom are Satterthwaite's (Biometrics Bulletin 1946).

    Raises:
        ConfigError: no such metric, or they were measured otherwise, or of a single user.
    """
    first = a.evaluations[0]
    a_SU, b_SU = _values(a, first, metric), _values(b, first, metric)
    differences_U = a_SU.mean(axis=0) - b_SU.mean(axis=0)
    parts = [_users(differences_U), _seeds(a_SU, a), _seeds(b_SU, b)]
    return _found(float(differences_U.mean()), parts)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for there being several: Holm, Scandinavian Journal of Statistics 1979. NaN stays NaN."""
    order = [which for which in np.argsort(p_values, kind="stable") if not math.isnan(p_values[which])]
    adjusted, highest = np.full(len(p_values), math.nan), 0.0
    for place, which in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p_values[which]))
        adjusted[which] = highest
    return [float(one) for one in adjusted]


def _values(runs: Runs, first: Evaluation, metric: str) -> Float64s:
    rows = []
    for run in runs.evaluations:
        require_same_card(first.card, run.card)
        if metric not in run.per_query:
            raise ConfigError(f"no metric {metric!r} per user{nearest(metric, run.per_query)}")
        rows.append(run.per_query[metric][paired_order(first.user_ids_U, run.user_ids_U)])
    if len(rows[0]) < 2:
        raise ConfigError("one user was asked: a mean over users has no interval")
    return np.stack(rows)


def _users(values_U: Float64s) -> Part:
    return Part(float(values_U.var(ddof=1)) / len(values_U), len(values_U) - 1)


def _seeds(values_SU: Float64s, runs: Runs) -> Part:
    means_S = values_SU.mean(axis=1)
    if not runs.draws:
        return Part(0.0, 1.0)
    if len(means_S) < 2:
        return Part(math.nan, 1.0)
    return Part(float(means_S.var(ddof=1)) / len(means_S), len(means_S) - 1)


def _found(mean: float, parts: Sequence[Part]) -> OverSeeds:
    variance = sum(part.variance for part in parts)
    if math.isnan(variance):
        return OverSeeds(mean, math.nan, math.nan, math.nan)
    if variance == 0:
        return OverSeeds(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    degrees = variance**2 / sum(part.variance**2 / part.degrees for part in parts)
    error = math.sqrt(variance)
    far = float(stats.t.ppf(0.975, degrees)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, degrees))
    return OverSeeds(mean, mean - far, mean + far, p_value)
