"""A histogram's quantiles and their bounds: against sorted values, and how often they leave the truth."""

import json
import math

import numpy as np
import pytest

from recray.monitor.quantiles import CONCENTRATION, RESOLUTION, LogHistogram
from recray.monitor.sequential import RateRatio


def told(values: np.ndarray) -> LogHistogram:
    seen = LogHistogram()
    for value in values.tolist():
        seen.add(value)
    return seen


def slow_bounds(values: np.ndarray, q: float, alpha: float) -> tuple[float, float]:
    """Every count of values below, tried one by one, on the values themselves."""
    n, level = len(values), math.log(2 / alpha)
    seen = [RateRatio(CONCENTRATION, {(q, 1.0): [n - k, k]}) for k in range(n + 1)]
    kept = [k for k, each in enumerate(seen) if max(each.log_e(above=True), each.log_e(above=False)) < level]
    ordered = [0.0, *np.sort(values).tolist(), math.inf]
    return ordered[min(kept)], ordered[max(kept) + 1]


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("n", [3, 200, 2000])
def test_bounds_are_those_of_sorted_values_but_for_the_resolution(q: float, n: int) -> None:
    values = np.random.default_rng(0).lognormal(4, 0.5, n)
    seen = told(values)
    lower, upper = seen.bounds(q, 0.05)
    slow_lower, slow_upper = slow_bounds(values, q, 0.05)
    assert slow_lower / RESOLUTION <= lower <= slow_lower
    assert slow_upper <= upper <= slow_upper * RESOLUTION
    quantile = seen.quantile(q)
    assert quantile is not None
    truth = np.sort(values)[math.ceil(q * n) - 1]
    assert truth <= quantile <= truth * RESOLUTION


def test_the_truth_is_left_as_rarely_as_alpha_says() -> None:
    rng = np.random.default_rng(1)
    truth = math.exp(4 + 0.5 * 1.6448536)
    left = 0
    for _ in range(60):
        seen = LogHistogram()
        for _ in range(20):
            for value in rng.lognormal(4, 0.5, 50).tolist():
                seen.add(value)
            lower, upper = seen.bounds(0.95, 0.1)
            if not lower <= truth <= upper:
                left += 1
                break
    assert left <= 6


def test_ville_is_as_wide() -> None:
    ville = pytest.importorskip("ville")
    values = np.random.default_rng(2).lognormal(4, 0.5, 5000)
    lower, upper = told(values).bounds(0.95, 0.05)
    oracle = ville.QuantileCS(0.95, 0.05, t_opt=5000, intersect=False).fit(values)
    assert oracle.interval()[0] < lower < oracle.estimate_[-1] < upper < oracle.interval()[1]


def test_nothing_has_no_quantile_and_what_is_out_of_range_stays_at_its_end() -> None:
    seen = LogHistogram()
    assert seen.quantile(0.5) is None
    assert seen.bounds(0.5, 0.05) == (0, math.inf)
    for value in (0.0, 1e9):
        seen.add(value)
    assert sorted(seen.counts) == [0, max(seen.counts)]
    assert LogHistogram.from_json(json.loads(json.dumps(seen.to_json()))) == seen
