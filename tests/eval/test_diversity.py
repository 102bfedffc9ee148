"""Intra-list diversity, against a slow loop over the pairs of a list."""

from itertools import combinations

import numpy as np
import pytest

from recray.eval.diversity import Diversity


def test_it_is_the_mean_cosine_distance_of_pairs() -> None:
    item_ID = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    item_ID[4] = 0.0
    item_ids_S = np.array([3, 1, 4, 15, 9, 2, 6])

    def distance(i: int, j: int) -> float:
        lengths = float(np.linalg.norm(item_ID[i]) * np.linalg.norm(item_ID[j]))
        return 1.0 - float(item_ID[i] @ item_ID[j]) / lengths if lengths else 1.0

    slow = np.mean([distance(i, j) for i, j in combinations(item_ids_S.tolist(), 2)])
    assert Diversity(item_ID).of(item_ids_S) == pytest.approx(slow, rel=1e-5)


def test_its_ends() -> None:
    item_ID = np.array([[1, 0], [2, 0], [-3, 0], [0, 1]], np.float32)
    diversity = Diversity(item_ID)
    assert diversity.of(np.array([0, 1])) == pytest.approx(0.0)
    assert diversity.of(np.array([0, 2])) == pytest.approx(2.0)
    assert diversity.of(np.array([0, 3])) == pytest.approx(1.0)
    assert diversity.of(np.array([0])) == diversity.of(np.array([], np.int64)) == 0.0
