"""Pair batches: complete, the same for any number of workers, and a function of (seed, epoch, step)."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.config import ConfigError
from recray.data.batches.pairs import PairBatches
from tests.data.made import dataset_of

DATASET = dataset_of([(n % 6, n % 11, n) for n in range(57)])
MASK_N = np.arange(57) % 4 != 0


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 60), world=st.integers(1, 7), epoch=st.integers(0, 3))
def test_every_interaction_exactly_once_per_epoch(size: int, world: int, epoch: int) -> None:
    batches = PairBatches(DATASET, MASK_N, size, seed=5)
    seen: Counter[tuple[int, int]] = Counter()
    for step in range(batches.num_steps()):
        parts = [batches.batch(epoch, step, rank, world) for rank in range(world)]
        whole = batches.batch(epoch, step)
        assert torch.equal(torch.cat([p.user_ids_B for p in parts]), whole.user_ids_B)
        assert torch.equal(torch.cat([p.item_logq_B for p in parts]), whole.item_logq_B)
        assert max(len(p.user_ids_B) for p in parts) - min(len(p.user_ids_B) for p in parts) <= 1
        for part in parts:
            seen.update(zip(part.user_ids_B.tolist(), part.item_ids_B.tolist(), strict=True))
    rows = np.flatnonzero(MASK_N)
    users, items = DATASET.user_ids_N[rows].tolist(), DATASET.item_ids_N[rows].tolist()
    assert seen == Counter(zip(users, items, strict=True))


def test_any_step_can_be_asked_for_first() -> None:
    forward = PairBatches(DATASET, MASK_N, 8, seed=1)
    order = [(e, s) for e in range(3) for s in range(forward.num_steps())]
    expected = {key: forward.batch(*key).item_ids_B.tolist() for key in order}
    backward = PairBatches(DATASET, MASK_N, 8, seed=1)
    assert {key: backward.batch(*key).item_ids_B.tolist() for key in reversed(order)} == expected
    assert expected[0, 0] != expected[1, 0]
    assert PairBatches(DATASET, MASK_N, 8, seed=2).batch(0, 0).item_ids_B.tolist() != expected[0, 0]


def test_logq_is_the_log_of_the_share_of_the_item_within_the_mask() -> None:
    batch = PairBatches(DATASET, MASK_N, 100).batch(0, 0)
    items = DATASET.item_ids_N[MASK_N].tolist()
    for item, logq in zip(batch.item_ids_B.tolist(), batch.item_logq_B.tolist(), strict=True):
        assert logq == pytest.approx(math.log(items.count(item) / len(items)), abs=1e-6)


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="global_batch_size"):
        PairBatches(DATASET, MASK_N, 0)
    batches = PairBatches(DATASET, MASK_N, 8)
    with pytest.raises(ConfigError, match="rank"):
        batches.batch(0, 0, rank=2, world_size=2)
    with pytest.raises(ConfigError, match="step"):
        batches.batch(0, batches.num_steps())


def test_recency_weighs_by_the_number_of_newer_interactions_of_the_user() -> None:
    batches = PairBatches(DATASET, MASK_N, 100, recency=3.0)
    batch = batches.batch(0, 0)
    rows = np.flatnonzero(MASK_N)
    users, items = DATASET.user_ids_N[rows].tolist(), DATASET.item_ids_N[rows].tolist()
    expected = {
        (u, i): 0.1 + math.exp(-users[n + 1 :].count(u) / 3.0)
        for n, (u, i) in enumerate(zip(users, items, strict=True))
    }
    assert batch.weight_B is not None
    triples = zip(batch.user_ids_B.tolist(), batch.item_ids_B.tolist(), batch.weight_B.tolist(), strict=True)
    for user, item, weight in triples:
        assert weight == pytest.approx(expected[user, item])
    assert PairBatches(DATASET, MASK_N, 100).batch(0, 0).weight_B is None


def test_steps_are_equally_long() -> None:
    batches = PairBatches(DATASET, MASK_N, 41)  # 42 pairs: one step of 41 would leave a batch of one
    assert [len(batches.batch(0, s).user_ids_B) for s in range(batches.num_steps())] == [21, 21]


def test_weights_multiply_recency_and_pairs_that_weigh_nothing_are_not_drawn() -> None:
    weights_N = (np.arange(57) % 3 / 2).astype(np.float32)
    heavy = PairBatches(DATASET, MASK_N, 100, recency=3.0, weights_N=weights_N).batch(0, 0)
    plain = PairBatches(DATASET, MASK_N, 100, recency=3.0).batch(0, 0)
    assert heavy.weight_B is not None
    assert plain.weight_B is not None
    recency = {}
    for user, item, weight in zip(
        plain.user_ids_B.tolist(), plain.item_ids_B.tolist(), plain.weight_B.tolist(), strict=True
    ):
        recency[user, item] = weight
    rows = [n for n in range(57) if MASK_N[n] and weights_N[n] > 0]
    expected: Counter[tuple[int, int, float]] = Counter()
    for n in rows:
        pair = int(DATASET.user_ids_N[n]), int(DATASET.item_ids_N[n])
        expected[*pair, round(recency[pair] * float(weights_N[n]), 5)] += 1
    triples = zip(heavy.user_ids_B.tolist(), heavy.item_ids_B.tolist(), heavy.weight_B.tolist(), strict=True)
    assert Counter((u, i, round(w, 5)) for u, i, w in triples) == expected
    items = DATASET.item_ids_N[rows].tolist()
    for item, logq in zip(heavy.item_ids_B.tolist(), heavy.item_logq_B.tolist(), strict=True):
        assert logq == pytest.approx(math.log(items.count(item) / len(items)), abs=1e-6)
    alone = PairBatches(DATASET, MASK_N, 100, weights_N=weights_N).batch(0, 0)
    assert alone.weight_B is not None
    assert set(alone.weight_B.tolist()) == {0.5, 1.0}
