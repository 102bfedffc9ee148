"""Negatives: never an item that the user had to do with, all others alike, a function of the seed."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.config import ConfigError
from recray.data.batches.negatives import UnobservedItems
from recray.data.batches.pairs import PairBatches
from recray.schema import DataError
from tests.data.made import dataset_of

DATASET = dataset_of([(n % 6, n % 11, n) for n in range(57)])
MASK_N = np.arange(57) % 4 != 0


@settings(max_examples=60, deadline=None)
@given(data=st.data(), num_users=st.integers(1, 6), num_items=st.integers(1, 9))
def test_every_unobserved_item_and_no_other_is_drawn(
    data: st.DataObject, num_users: int, num_items: int
) -> None:
    pair = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    pairs = data.draw(st.lists(pair, max_size=40))  # repeats among them
    observed = {u: {i for v, i in pairs if v == u} for u in range(num_users)}
    users_N, items_N = np.array(pairs, np.int64).reshape(-1, 2).T
    items = UnobservedItems(users_N, items_N, num_users, num_items)
    assert items.counts_U.tolist() == [num_items - len(observed[user]) for user in range(num_users)]
    users = np.flatnonzero(items.counts_U)
    for user, row in zip(users.tolist(), items.draw(users, 400, [7]).tolist(), strict=True):
        assert set(row) == set(range(num_items)) - observed[user]  # 400 draws of at most 9 items


def test_a_user_who_has_everything_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    rows = [(2, item, item) for item in range(4)] + [(0, 1, 9), (1, 2, 9)]
    dataset = dataset_of(rows)
    batch = PairBatches(dataset, np.ones(6, bool), 20, negatives=3).batch(0, 0)
    assert sorted(batch.user_ids_B.tolist()) == [0, 1]
    assert "interacted with all 4 items: not learnt from are 'u2'" in caplog.text
    with pytest.raises(DataError, match="no pair of a user and an item is left"):
        PairBatches(dataset, dataset.user_ids_N == 2, 20, negatives=3)


def test_all_unobserved_items_are_equally_likely() -> None:
    items = UnobservedItems(np.array([0, 0, 0]), np.array([1, 4, 5]), 1, 8)
    counts = Counter(items.draw(np.zeros(1, np.int64), 50_000, [0])[0].tolist())
    assert set(counts) == {0, 2, 3, 6, 7}
    assert all(abs(count / 10_000 - 1) < 0.05 for count in counts.values())  # five standard deviations


def test_negatives_of_a_batch_are_those_of_its_user_for_any_number_of_workers() -> None:
    batches = PairBatches(DATASET, MASK_N, 20, seed=3, negatives=4)
    whole = batches.batch(1, 1)
    parts = [batches.batch(1, 1, rank, 3) for rank in range(3)]
    negatives = [part.negative_ids_BK for part in parts]
    assert whole.negative_ids_BK is not None
    assert whole.negative_ids_BK.shape == (len(whole.user_ids_B), 4)
    assert torch.equal(torch.cat([n for n in negatives if n is not None]), whole.negative_ids_BK)
    users, items = DATASET.user_ids_N[MASK_N].tolist(), DATASET.item_ids_N[MASK_N].tolist()
    observed = set(zip(users, items, strict=True))
    for user, row in zip(whole.user_ids_B.tolist(), whole.negative_ids_BK.tolist(), strict=True):
        assert not observed & {(user, item) for item in row}


def test_negatives_are_a_function_of_seed_epoch_and_step_and_change_nothing_else() -> None:
    plain = PairBatches(DATASET, MASK_N, 20, seed=3).batch(0, 1)
    first = PairBatches(DATASET, MASK_N, 20, seed=3, negatives=4)
    again = PairBatches(DATASET, MASK_N, 20, seed=3, negatives=4)
    batch = first.batch(0, 1)
    assert torch.equal(plain.item_ids_B, batch.item_ids_B)
    assert plain.negative_ids_BK is None
    assert batch.negative_ids_BK is not None
    repeated = again.batch(0, 1).negative_ids_BK
    assert repeated is not None
    assert torch.equal(batch.negative_ids_BK, repeated)
    others = first.batch(1, 1), PairBatches(DATASET, MASK_N, 20, seed=4, negatives=4).batch(0, 1)
    for other in others:
        assert other.negative_ids_BK is not None
        assert not torch.equal(batch.negative_ids_BK, other.negative_ids_BK)
    assert batch.to(torch.device("cpu")).negative_ids_BK is not None


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="must not be negative, got 0.0 and -1"):
        PairBatches(DATASET, MASK_N, 20, negatives=-1)
    items = UnobservedItems(np.array([0]), np.array([0]), 1, 2)
    with pytest.raises(ConfigError, match="negatives must be at least 1, got 0"):
        items.draw(np.zeros(1, np.int64), 0, [0])
