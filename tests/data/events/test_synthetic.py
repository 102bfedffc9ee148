"""The planted truth: deterministic, skewed, sessions as stated, and the ideal ranking on top of all."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from recray.batch import EvalExamples
from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.ideal import IdealRanker
from recray.data.events.prepare import prepare
from recray.data.events.splits import global_time, leave_one_out
from recray.data.sources.synthetic.source import Synthetic
from recray.data.sources.synthetic.truth import SyntheticConfig, draw_events, plant, session_scores
from recray.schema import DataError
from tests.data.made import dataset_of

SMALL = SyntheticConfig(num_users=300, num_items=200, events_per_user=25, days=200)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepare(Synthetic(config=SMALL), tmp_path_factory.mktemp("synthetic") / "out")


def ndcg(scores_BI: torch.Tensor, examples: EvalExamples, k: int = 10) -> float:
    """Mean NDCG@k by a slow loop, seen items left out."""
    total = 0.0
    for b, scores_I in enumerate(scores_BI):
        scores_I = scores_I.clone()
        scores_I[examples.queries.history.row(b)] = -torch.inf
        wanted = set(examples.targets.row(b).tolist())
        top = scores_I.topk(k).indices.tolist()
        gain = sum(1 / np.log2(r + 2) for r, item in enumerate(top) if item in wanted)
        total += gain / sum(1 / np.log2(r + 2) for r in range(min(k, len(wanted))))
    return total / len(scores_BI)


def test_equal_configs_give_equal_data(dataset: Dataset, tmp_path: Path) -> None:
    plant.cache_clear()
    assert prepare(Synthetic(config=SMALL), tmp_path / "again").hash == dataset.hash
    other = dataclasses.replace(SMALL, seed=1)
    assert prepare(Synthetic(config=other), tmp_path / "other").hash != dataset.hash


def test_sizes_are_about_what_was_asked_for(dataset: Dataset) -> None:
    assert dataset.num_users == 300
    assert 150 <= dataset.num_items <= 200
    assert len(dataset) == pytest.approx(300 * 25, rel=0.15)
    assert set(np.unique(dataset.ratings_N)) == {1, 2, 3, 4, 5}
    assert dataset.items["title"].n_unique() == dataset.num_items
    assert dataset.items["genres"].list.len().is_between(1, 2).all()


def test_nobody_chooses_twice_or_before_the_release(dataset: Dataset) -> None:
    pairs = dataset.user_ids_N * dataset.num_items + dataset.item_ids_N
    assert len(np.unique(pairs)) == len(pairs)
    rows = dataset.items["raw_id"].cast(int).to_numpy() - 1
    released = plant(SMALL).items.released_I[rows][dataset.item_ids_N]
    # A session sees what was out when it began.
    assert (dataset.timestamps_N >= released).all()


def test_sessions_are_bursts(dataset: Dataset) -> None:
    order = np.argsort(dataset.user_ids_N, kind="stable")
    same_user = np.diff(dataset.user_ids_N[order]) == 0
    gaps = np.diff(dataset.timestamps_N[order])[same_user]
    assert gaps.min() >= 0
    within, between = gaps <= 600, gaps >= 3 * 3600
    assert (within | between).all()
    assert 0.6 < within.mean() < 0.95


def test_popularity_is_skewed(dataset: Dataset) -> None:
    counts = np.sort(item_counts(dataset, np.ones(len(dataset), dtype=bool)))[::-1]
    assert counts[: len(counts) // 10].sum() > 0.25 * counts.sum()


def test_taste_drifts() -> None:
    users = plant(SMALL).users
    similarity = (users.first_taste_UD * users.last_taste_UD).sum(axis=1)
    assert 0.5 < similarity.mean() < 0.95
    still = plant(dataclasses.replace(SMALL, drift=0.0)).users
    np.testing.assert_allclose(still.first_taste_UD, still.last_taste_UD, atol=1e-6)


def test_choices_follow_the_stated_probabilities() -> None:
    """First choices of a session against the softmax of its scores: calibrated over all sessions."""
    truth = plant(dataclasses.replace(SMALL, num_users=2_000, events_per_user=6, seed=3))
    events = draw_events(truth)
    first = np.r_[True, np.diff(events.session_ids_N) != 0]
    newcomers = np.r_[True, np.diff(truth.sessions.user_ids_S) != 0]  # nothing is seen yet
    rows = np.flatnonzero(first & newcomers[events.session_ids_N])
    scores_SI = session_scores(truth, events.session_ids_N[rows]).astype(np.float64)
    chance_SI = np.exp(scores_SI - scores_SI.max(axis=1, keepdims=True))
    chance_SI /= chance_SI.sum(axis=1, keepdims=True)
    # The randomised probability transform of a calibrated forecast is uniform.
    chosen = events.item_ids_N[rows]
    below = np.cumsum(chance_SI, axis=1)[np.arange(len(rows)), chosen]
    own = chance_SI[np.arange(len(rows)), chosen]
    uniform = below - own * np.random.default_rng(0).random(len(rows))
    heights = np.histogram(uniform, bins=10, range=(0, 1))[0]
    assert len(rows) == 2_000
    assert abs(heights - 200).max() < 5 * np.sqrt(200)


@pytest.mark.parametrize("horizon", [0, 365 * 86_400])
def test_the_ideal_ranking_beats_popularity_and_noise(dataset: Dataset, horizon: int) -> None:
    split = global_time(dataset) if horizon else leave_one_out(dataset)
    examples, card = eval_examples(dataset, split, "test")
    ideal_BI = IdealRanker(dataset, horizon).score_items(examples.queries)
    assert ideal_BI.shape == (card.num_users, dataset.num_items)
    assert ideal_BI.dtype == torch.float32
    assert torch.isfinite(ideal_BI).all()
    popular_I = torch.from_numpy(item_counts(dataset, split.train_N)).float()
    best = ndcg(ideal_BI, examples)
    assert best > 2 * ndcg(popular_I.expand_as(ideal_BI), examples)
    noise = torch.randn(ideal_BI.shape, generator=torch.Generator().manual_seed(0))
    assert best > ndcg(ideal_BI + 2 * noise, examples)


def test_without_taste_and_novelty_popularity_is_ideal(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, taste_strength=0.0, novelty_boost=0.0, new_items=0.0)
    dataset = prepare(Synthetic(config=config), tmp_path / "out")
    examples, _ = eval_examples(dataset, leave_one_out(dataset), "test")
    ideal_BI = IdealRanker(dataset).score_items(examples.queries)
    rows = dataset.items["raw_id"].cast(int).to_numpy() - 1
    order = torch.from_numpy(plant(config).items.popularity_I[rows]).argsort(descending=True)
    assert (ideal_BI.argsort(dim=1, descending=True) == order).all()


def test_only_synthetic_data_has_an_ideal() -> None:
    with pytest.raises(DataError, match="no planted truth"):
        IdealRanker(dataset_of([(0, 0, 0)]))


def test_impossible_configs_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_items must be at least 40"):
        SyntheticConfig(num_items=10)
    with pytest.raises(ConfigError, match="events_per_user"):
        SyntheticConfig(events_per_user=2)
