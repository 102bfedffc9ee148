"""``benchmarks.rules``: how sure the coverage of a rule's lists is."""

import numpy as np
import pytest

from benchmarks.rules import coverage


def test_coverage_moves_with_who_was_asked_as_its_interval_says() -> None:
    """Samples of the same users: most intervals hold what such samples cover on average."""
    rng, num_items, num_users = np.random.default_rng(0), 400, 150
    chance_I = np.arange(1, num_items + 1) ** -1.2
    everybody = [rng.choice(num_items, 10, replace=False, p=chance_I / chance_I.sum()) for _ in range(3_000)]

    def covered() -> list[np.ndarray]:
        return [everybody[user] for user in rng.choice(len(everybody), num_users, replace=False)]

    true = np.mean([len(np.unique(covered())) / num_items for _ in range(200)])
    found = [coverage(covered(), num_items, seed=seed) for seed in range(8)]
    assert sum(one.low <= true <= one.high for one in found) >= 7
    assert all(one.low < one.mean < one.high for one in found)
    assert np.mean([one.high - one.low for one in found]) < 0.1


def test_what_a_list_is_cut_to_counts() -> None:
    lists = [np.array([0, 1, 2]), np.array([0, 3, 4]), *[np.array([0])] * 8]
    assert coverage(lists, 10, k=1).mean == pytest.approx(0.1)
    assert coverage(lists, 10, k=3).mean == pytest.approx(0.5)
