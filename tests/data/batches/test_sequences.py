"""Sequence batches: every event but the first is a target once, the same for any number of workers."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.batch import SequenceBatch
from recray.config import ConfigError
from recray.data.batches.sequences import SequenceBatches
from recray.schema import DataError
from tests.data.made import dataset_of

GENERATOR = np.random.default_rng(0)
LENGTHS = [1, 2, 3, 9, 30, 41]
ROWS = [(u, int(GENERATOR.integers(0, 50)), 100 * n + u) for u, m in enumerate(LENGTHS) for n in range(m)]
DATASET = dataset_of(ROWS)
ALL_N = np.ones(len(ROWS), dtype=bool)
SEQUENCES = {u: [item for user, item, _ in ROWS if user == u] for u in range(len(LENGTHS))}


def targets(batch: SequenceBatch) -> list[tuple[int, tuple[int, ...], int]]:
    """(user, what the model may see, what it must predict) of every target."""
    found = []
    for b, user in enumerate(batch.user_ids_B.tolist()):
        items = batch.items.row(b).tolist()
        for position in range(int(batch.first_target_B[b]), len(items)):
            found.append((user, tuple(items[:position]), items[position]))
    return found


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 30),
    world=st.integers(1, 5),
    max_items=st.integers(1, 20),
    every_position=st.booleans(),
)
def test_every_event_but_the_first_is_a_target_once(
    size: int, world: int, max_items: int, every_position: bool
) -> None:
    batches = SequenceBatches(DATASET, ALL_N, size, max_items, every_position=every_position, seed=3)
    seen: Counter[tuple[int, int, int]] = Counter()
    for step in range(batches.num_steps()):
        if len(batches.batch(1, step).user_ids_B) < world:
            with pytest.raises(ConfigError, match=f"sequences for {world} parts"):
                batches.batch(1, step, 0, world)
            world = 1
        parts = [batches.batch(1, step, rank, world) for rank in range(world)]
        whole = batches.batch(1, step)
        assert {part.total for part in parts} == {whole.total} == {whole.size}
        found = [target for part in parts for target in targets(part)]
        assert Counter(found) == Counter(targets(whole))
        for user, context, item in found:
            sequence = SEQUENCES[user]
            # Where in the user's sequence it lies: the context stands before it, unbroken.
            ends = [
                at
                for at in range(1, len(sequence))
                if sequence[at] == item and tuple(sequence[max(0, at - len(context)) : at]) == context
            ]
            wanted = [min(at, max_items if not every_position else max(1, max_items // 2)) for at in ends]
            assert any(len(context) >= least for least in wanted)
            assert len(context) <= max_items
            seen[user, item, 0] += 1
    expected: Counter[tuple[int, int, int]] = Counter()
    for user, sequence in SEQUENCES.items():
        expected.update((user, item, 0) for item in sequence[1:])
    assert seen == expected


def test_rows_are_in_order_of_their_length_and_start_before_their_targets() -> None:
    batch = SequenceBatches(DATASET, ALL_N, 100, 5).batch(0, 0)
    lengths_B = batch.items.lengths_B()
    assert (lengths_B.diff() >= 0).all()
    assert (batch.first_target_B >= 1).all()
    assert (batch.first_target_B < lengths_B).all()


def test_any_step_can_be_asked_for_first_and_epochs_differ() -> None:
    one, other = (SequenceBatches(DATASET, ALL_N, 4, 5, seed=1) for _ in range(2))
    assert one.num_steps() > 1
    ahead = one.batch(2, 1)
    assert torch.equal(ahead.items.values_N, other.batch(2, 1).items.values_N)
    first = [
        SequenceBatches(DATASET, ALL_N, 4, 5, seed=1).batch(e, 0).items.values_N.tolist() for e in (0, 1)
    ]
    assert first[0] != first[1]


def test_only_the_mask_is_used() -> None:
    mask_N = DATASET.timestamps_N < 800
    batch = SequenceBatches(DATASET, mask_N, 100, 50).batch(0, 0)
    for user, context, item in targets(batch):
        assert [*context, item] == SEQUENCES[user][: len(context) + 1]
        assert len(context) + 1 <= 8


def test_nothing_to_learn_is_said() -> None:
    with pytest.raises(DataError, match="no user has two events"):
        SequenceBatches(DATASET, DATASET.timestamps_N < 100, 4, 5)
    with pytest.raises(ConfigError, match="at least 1, got 4 and 0"):
        SequenceBatches(DATASET, ALL_N, 4, 0)


@pytest.mark.parametrize("every_position", [True, False])
def test_times_stay_with_their_items(every_position: bool) -> None:
    happened = {(u, t): item for u, item, t in ROWS}
    batches = SequenceBatches(DATASET, ALL_N, 7, 6, every_position=every_position, seed=1)
    for step in range(batches.num_steps()):
        batch = batches.batch(0, step)
        users_N = batch.user_ids_B[batch.items.rows_N()].tolist()
        found = zip(users_N, batch.times_N.tolist(), batch.items.values_N.tolist(), strict=True)
        assert all(happened[user, time] == item for user, time, item in found)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 12),
    world=st.integers(1, 3),
    max_items=st.integers(1, 12),
    every_position=st.booleans(),
    scale=st.sampled_from([1.0, 8.0]),
)
def test_weights_of_targets_add_up_to_their_number_in_every_global_batch(
    size: int, world: int, max_items: int, every_position: bool, scale: float
) -> None:
    weights_N = np.where(np.arange(len(ROWS)) % 3 == 0, 0, 1 + np.arange(len(ROWS)) % 5).astype(np.float32)
    given_weights = {
        (u, t): w for (u, _, t), w in zip(sorted(ROWS, key=lambda r: r[2]), weights_N, strict=True)
    }
    batches = SequenceBatches(
        DATASET, ALL_N, size, max_items, every_position=every_position, weights_N=scale * weights_N
    )
    seen: Counter[tuple[int, int]] = Counter()
    for step in range(batches.num_steps()):
        parts_of = world if len(batches.batch(0, step).user_ids_B) >= world else 1
        parts = [batches.batch(0, step, rank, parts_of) for rank in range(parts_of)]
        told: dict[tuple[int, int], float] = {}
        for part in parts:
            rows_N, is_target_N = part.items.rows_N(), part.is_target_N()
            users, times = part.user_ids_B[rows_N][is_target_N].tolist(), part.times_N[is_target_N].tolist()
            found = part.target_weights()
            assert found is not None
            told |= dict(zip(zip(users, times, strict=True), found.tolist(), strict=True))
        wanted = {event: given_weights[event] for event in told}
        mean = sum(wanted.values()) / len(wanted)
        assert told == pytest.approx({event: weight / mean for event, weight in wanted.items()}, rel=1e-5)
        seen.update(event for event, weight in wanted.items() if weight)
    first = {u: min(t for v, _, t in ROWS if v == u) for u in range(len(LENGTHS))}
    assert seen == Counter(event for event, w in given_weights.items() if w and event[1] != first[event[0]])


def test_nothing_that_weighs_is_said() -> None:
    with pytest.raises(DataError, match="no user has two events to train on"):
        SequenceBatches(DATASET, ALL_N, 4, 5, weights_N=np.zeros(len(ROWS), np.float32))
