"""Quality of codes against slow counts."""

import math
from collections import Counter

import numpy as np
import pytest

from recray.config import ConfigError
from recray.eval.semantic_ids import code_quality, collision_sizes, entropy_bits

CODES = np.array([[0, 1], [0, 1], [0, 1], [2, 0], [2, 0], [2, 1], [3, 3]])


def test_figures_are_those_of_slow_counts() -> None:
    quality = code_quality(CODES, (4, 5))
    ids = Counter(map(tuple, CODES.tolist()))
    assert quality.usage_L == (3 / 4, 3 / 5)
    assert quality.collision_rate == pytest.approx(sum(n for n in ids.values() if n > 1) / 7)
    assert quality.collision_rate == pytest.approx(5 / 7)
    assert quality.excess_rate == pytest.approx(1 - len(ids) / 7)
    assert quality.largest_collision == 3
    assert quality.entropy == pytest.approx(-sum(n / 7 * math.log2(n / 7) for n in ids.values()))
    for level, perplexity in enumerate(quality.perplexity_L):
        shares = [n / 7 for n in Counter(CODES[:, level].tolist()).values()]
        assert perplexity == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    assert collision_sizes(CODES) == {1: 2, 2: 1, 3: 1}


def test_distinct_codes_have_no_collision_and_full_entropy() -> None:
    codes_IL = np.array([[a, b] for a in range(4) for b in range(4)])
    quality = code_quality(codes_IL, (4, 4))
    assert (quality.collision_rate, quality.excess_rate, quality.largest_collision) == (0.0, 0.0, 1)
    assert quality.entropy == pytest.approx(4.0)
    assert quality.perplexity_L == pytest.approx((4.0, 4.0))


def test_one_code_for_all_is_a_collapse() -> None:
    quality = code_quality(np.zeros((8, 2), np.int64), (4, 4))
    assert quality.usage_L == (0.25, 0.25)
    assert quality.perplexity_L == (1.0, 1.0)
    assert (quality.collision_rate, quality.excess_rate, quality.entropy) == (1.0, 7 / 8, 0.0)
    assert entropy_bits(np.array([0, 0, 5])) == 0.0


def test_metrics_are_flat_and_count_levels_from_one() -> None:
    metrics = code_quality(CODES, (4, 5)).metrics()
    assert metrics["usage_1"] == 0.75
    assert metrics["largest_collision"] == 3.0
    assert all(type(value) is float for value in metrics.values())


def test_no_items_are_refused() -> None:
    with pytest.raises(ConfigError, match="no items"):
        code_quality(np.empty((0, 2), np.int64), (4, 4))
