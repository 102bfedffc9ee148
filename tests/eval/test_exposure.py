"""Coverage, novelty and popularity bias against loops over every order of tied scores."""

import itertools
import math

import numpy as np
import pytest
import torch

from recray.eval.exposure import Exposure
from recray.eval.ranking import sort_scores
from recray.schema import DataError

INF = float("inf")
COUNTS = np.array([50, 30, 0, 15, 5])
SCORES = [
    [2.0, 1.0, 1.0, 1.0, -INF],  # three items for one place
    [0.0, 0.0, 0.0, 0.0, 0.0],
    [-INF, 3.0, -INF, -INF, -INF],  # fewer candidates than places
]


def all_lists(scores: list[float], k: int) -> list[tuple[int, ...]]:
    candidates = [i for i, s in enumerate(scores) if s > -INF]
    return [
        order[:k]
        for order in itertools.permutations(candidates)
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]


def found(k: int) -> tuple[dict[str, torch.Tensor], float]:
    exposure = Exposure(COUNTS, [k])
    scores = torch.tensor(SCORES)
    per_query = exposure.add(scores, sort_scores(scores))
    return per_query, exposure.coverage()[f"coverage@{k}"]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_all_three_are_means_over_all_orders(k: int) -> None:
    per_query, coverage = found(k)
    information = [-math.log2(max(c, 1) / 100) for c in COUNTS]
    consumed = sum(c * c for c in COUNTS) / sum(COUNTS)
    lists = [all_lists(row, k) for row in SCORES]
    for b, options in enumerate(lists):
        novelty = np.mean([np.mean([information[i] for i in option]) for option in options])
        popularity = np.mean([np.mean([COUNTS[i] for i in option]) for option in options])
        assert per_query[f"novelty@{k}"][b].item() == pytest.approx(novelty)
        assert per_query[f"popularity_bias@{k}"][b].item() == pytest.approx(popularity / consumed - 1)
    shown = [len(set().union(*joint)) for joint in itertools.product(*lists)]
    assert coverage == pytest.approx(np.mean(shown) / len(COUNTS))


def test_nothing_depends_on_how_rows_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.integers(0, 6, size=(40, 30)).astype(np.float32))
    counts = rng.integers(0, 9, size=30)
    runs = []
    for cells in (2**22, 60, 1):
        monkeypatch.setattr("recray.eval.exposure._MAX_CELLS", cells)
        exposure = Exposure(counts, [3, 10])
        per_query = exposure.add(scores, sort_scores(scores))
        runs.append((per_query, exposure.coverage()))
    for per_query, coverage in runs[1:]:
        for name, values in per_query.items():
            assert torch.equal(values, runs[0][0][name])
        assert coverage == pytest.approx(runs[0][1], abs=1e-12)


def test_popularity_bias_is_zero_for_lists_as_popular_as_what_people_take() -> None:
    exposure = Exposure(np.full(6, 7), [2])
    scores = torch.rand(4, 6)
    assert torch.allclose(
        exposure.add(scores, sort_scores(scores))["popularity_bias@2"], torch.zeros(4).double()
    )


@pytest.mark.parametrize("counts", [[0, 0, 0], [3, -1, 2]])
def test_counts_must_be_counts(counts: list[int]) -> None:
    with pytest.raises(DataError, match="item_counts_I"):
        Exposure(np.array(counts), [1])
