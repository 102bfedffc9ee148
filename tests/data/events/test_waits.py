"""Planted waits: what comes next follows the stated rule, and the clock is worth what it is worth."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.ideal import IdealAfterWaits
from recray.data.events.prepare import prepare
from recray.data.events.splits import leave_one_out
from recray.data.sources.synthetic.waits import (
    MINUTES,
    NIGHT,
    WEEK,
    SyntheticWaits,
    WaitsConfig,
    chances,
    draw,
    kind_of_wait,
)
from recray.eval.evaluate import evaluate
from recray.schema import DataError
from tests.data.made import dataset_of

SMALL = WaitsConfig(num_users=600, num_topics=8, items_per_topic=40, events_per_user=25)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepare(SyntheticWaits(config=SMALL), tmp_path_factory.mktemp("waits") / "out")


def test_equal_configs_give_equal_data_without_repeats(dataset: Dataset, tmp_path: Path) -> None:
    draw.cache_clear()
    assert prepare(SyntheticWaits(config=SMALL), tmp_path / "again").hash == dataset.hash
    assert (
        prepare(SyntheticWaits(config=dataclasses.replace(SMALL, seed=1)), tmp_path / "o").hash
        != dataset.hash
    )
    pairs = dataset.user_ids_N * dataset.num_items + dataset.item_ids_N
    assert len(np.unique(pairs)) == len(pairs)
    assert len(dataset) == pytest.approx(600 * 25, rel=0.05)


def test_topics_follow_the_wait() -> None:
    """Shares of events after each kind of wait, counted by a slow loop, against the stated ones."""
    truth = draw(SMALL)
    any_topic = 1 / SMALL.num_topics
    found: dict[int, list[bool]] = {MINUTES: [], NIGHT: [], WEEK: []}
    for user in range(SMALL.num_users):
        mine = np.flatnonzero(truth.user_ids_N == user)
        for before, event in itertools.pairwise(mine):
            kind = kind_of_wait(truth.timestamps_N[event] - truth.timestamps_N[before])
            last = truth.topics_I[truth.item_ids_N[before]]
            expected = (last, truth.everyday_U[user], truth.weekly_U[user])[kind]
            found[kind].append(bool(truth.topics_I[truth.item_ids_N[event]] == expected))
    counts = np.array([len(found[kind]) for kind in (MINUTES, NIGHT, WEEK)])
    np.testing.assert_allclose(counts / counts.sum(), SMALL.kinds, atol=0.02)
    for kind, certain in ((MINUTES, SMALL.stays), (NIGHT, 1.0), (WEEK, 1.0)):
        certain = (1 - SMALL.noise) * certain
        assert np.mean(found[kind]) == pytest.approx(certain + (1 - certain) * any_topic, abs=0.02)


@pytest.mark.parametrize("wait_s", [None, 60.0, 50_000.0, 600_000.0])
def test_chances_add_up_and_leave_out_what_was_seen(wait_s: float | None) -> None:
    unseen_I = np.random.default_rng(0).random(8 * 40) < 0.7
    chance_I = chances(SMALL, 3, 5, wait_s, unseen_I)
    assert chance_I.sum() == pytest.approx(1.0)
    assert (chance_I[~unseen_I] == 0).all()


def test_the_clock_is_worth_much_and_both_bounds_are_above_popularity(dataset: Dataset) -> None:
    split = leave_one_out(dataset)
    examples, card = eval_examples(dataset, split, "test")
    counts_I = item_counts(dataset, split.train_N)
    reached = [
        evaluate(ranker.score_items, examples, card, counts_I).means()["ndcg@10"]
        for ranker in (IdealAfterWaits(dataset), IdealAfterWaits(dataset, blind=True))
    ]
    assert reached[0] > 1.2 * reached[1] > 0.1


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        WaitsConfig(kinds=(0.5, 0.5, 0.5))
    with pytest.raises(ConfigError, match="less than items_per_topic"):
        WaitsConfig(events_per_user=60)
    with pytest.raises(DataError, match="no planted waits"):
        IdealAfterWaits(dataset_of([(0, 0, 0)]))
