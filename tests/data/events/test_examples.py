"""Evaluation examples against a slow loop over users, and the cases that the protocol names."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.splits import Split, global_time, leave_one_out, random_ratio
from recray.schema import DataError
from tests.data.made import Row, dataset_of

rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 40)), min_size=30, max_size=80)


@pytest.mark.parametrize("kind", ["leave-one-out", "global-time", "random"])
@pytest.mark.parametrize("target", ["validation", "test"])
@settings(max_examples=25, deadline=None)
@given(rows)
def test_examples_match_a_slow_loop(
    kind: str, target: Literal["validation", "test"], made: list[Row]
) -> None:
    dataset = dataset_of(made)
    maker = {"leave-one-out": leave_one_out, "global-time": global_time, "random": random_ratio}[kind]
    try:
        split = maker(dataset)
        examples, card = eval_examples(dataset, split, target)
    except DataError:
        return
    target_N = split.test_N if target == "test" else split.validation_N
    history_N = split.train_N | split.validation_N if target == "test" else split.train_N
    queries = examples.queries
    position = 0
    for user in range(dataset.num_users):
        own = np.flatnonzero(dataset.user_ids_N == user)
        if not split.train_N[own].any():
            continue
        history = [n for n in own if history_N[n]]
        seen = {dataset.item_ids_N[n] for n in history}
        wanted = [n for n in own if target_N[n] and dataset.item_ids_N[n] not in seen]
        items = list(dict.fromkeys(int(dataset.item_ids_N[n]) for n in wanted))
        if not items:
            continue
        assert queries.user_ids_B[position] == user
        assert queries.history.row(position).tolist() == [int(dataset.item_ids_N[n]) for n in history]
        start, stop = queries.history.offsets_B[position : position + 2].tolist()
        assert queries.history_times_N[start:stop].tolist() == [int(dataset.timestamps_N[n]) for n in history]
        assert examples.targets.row(position).tolist() == items
        time = {
            "leave-one-out": dataset.timestamps_N[wanted[-1]],
            "global-time": dataset.timestamps_N[target_N].min(),
            "random": dataset.timestamps_N[own[-1]],
        }[kind]
        assert queries.request_times_B[position] == time
        position += 1
    assert position == len(queries.user_ids_B) == card.num_users


def split_of(num_rows: int, validation: list[int], test: list[int]) -> Split:
    masks = [np.isin(np.arange(num_rows), part) for part in (validation, test)]
    return Split(
        name="random(by hand)", train_N=~(masks[0] | masks[1]), validation_N=masks[0], test_N=masks[1]
    )


def test_targets_that_were_seen_are_dropped_and_repeats_count_once() -> None:
    dataset = dataset_of([(0, 1, 1), (0, 2, 2), (0, 1, 3), (0, 3, 4), (0, 3, 5), (1, 2, 6), (1, 2, 7)])
    examples, card = eval_examples(dataset, split_of(7, [], [2, 3, 4, 6]), "test")
    assert examples.queries.user_ids_B.tolist() == [0]  # user 1 only repeats what they know
    assert examples.targets.row(0).tolist() == [3]
    assert card.num_users == 1


def test_warm_only_drops_users_without_training_history() -> None:
    dataset = dataset_of([(0, 1, 1), (0, 2, 2), (1, 1, 3)])
    split = split_of(3, [], [1, 2])
    examples, card = eval_examples(dataset, split, "test")
    assert examples.queries.user_ids_B.tolist() == [0]
    everyone, open_card = eval_examples(dataset, split, "test", warm_only=False)
    assert everyone.queries.user_ids_B.tolist() == [0, 1]
    assert everyone.queries.history.row(1).tolist() == []
    assert "relevance" in card.differences(open_card)


def test_nothing_to_find_is_an_error() -> None:
    with pytest.raises(DataError, match="no user"):
        eval_examples(dataset_of([(0, 1, 1), (0, 2, 2)]), split_of(2, [], []), "test")


def test_the_card_says_what_was_measured() -> None:
    dataset = dataset_of([(u, i, 10 * i + u) for u in range(3) for i in range(5)])
    _, card = eval_examples(dataset, leave_one_out(dataset), "validation")
    assert (card.dataset, card.dataset_hash, card.split) == ("made", dataset.hash, "leave-one-out")
    assert (card.target, card.num_users, card.k_core) == ("validation", 3, 0)


def test_item_counts() -> None:
    dataset = dataset_of([(0, 1, 1), (0, 2, 2), (1, 1, 3)])
    assert item_counts(dataset, np.array([True, False, True])).tolist() == [0, 2, 0]
