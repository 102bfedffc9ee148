"""Intervals and tests on distributions whose answer is known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from recray.eval.bootstrap import bootstrap_means, intervals, sign_flip_p_value


def test_intervals_cover_the_true_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(400):
        values = rng.exponential(2.0, size=(150, 1))  # skewed, true mean 2
        [found] = intervals(values, num_resamples=500, seed=trial)
        covered += found.low <= 2.0 <= found.high
    assert 0.91 <= covered / 400 <= 0.98


def test_interval_width_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(size=(5000, 1))
    [found] = intervals(values, num_resamples=2000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(5000), rel=0.1)
    assert found.mean == values.mean()


def test_resamples_are_a_function_of_the_seed_and_shared_by_all_metrics() -> None:
    values = np.random.default_rng(2).random((50, 1))
    twins = np.hstack([values, values + 1])
    means = bootstrap_means(twins, num_resamples=100, seed=3)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1)
    np.testing.assert_array_equal(means, bootstrap_means(twins, num_resamples=100, seed=3))
    assert not np.array_equal(means, bootstrap_means(twins, num_resamples=100, seed=4))


def test_every_resample_draws_as_many_users_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recray.eval.bootstrap._BLOCK_CELLS", 64)  # several blocks
    means = bootstrap_means(np.eye(10), num_resamples=33)
    np.testing.assert_allclose(means.sum(axis=1), 1)
    np.testing.assert_allclose(means * 10, (means * 10).round(), atol=1e-12)


def test_one_user_has_a_point_for_an_interval() -> None:
    assert intervals(np.array([[0.3]])) == [(0.3, 0.3, 0.3)]


def test_sign_flips_agree_with_the_enumeration_of_all_patterns() -> None:
    differences = np.random.default_rng(3).normal(0.4, 1, size=12)
    signs = np.array(list(itertools.product([1, -1], repeat=12)))
    exact = (np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12).mean()
    assert sign_flip_p_value(differences, num_flips=20_000) == pytest.approx(exact, abs=0.012)


def test_sign_flips_agree_with_a_paired_t_test_on_many_users() -> None:
    differences = np.random.default_rng(4).normal(0.04, 1, size=2000)
    assert sign_flip_p_value(differences) == pytest.approx(
        stats.ttest_1samp(differences, 0).pvalue, abs=0.015
    )


def test_p_values_are_uniform_where_systems_are_alike() -> None:
    rng = np.random.default_rng(5)
    p_values = [sign_flip_p_value(rng.normal(size=40), num_flips=400, seed=s) for s in range(300)]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.09


def test_no_difference_at_all_is_no_evidence() -> None:
    assert sign_flip_p_value(np.zeros(10)) == 1.0
