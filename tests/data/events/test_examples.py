"""Evaluation examples against a slow loop over users, and the cases that the protocol names."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.batch import EvalExamples
from recray.config import ConfigError
from recray.data.events.choices import Seen
from recray.data.events.examples import (
    ALL_SEEN,
    NO_TARGET,
    NO_TRAINING,
    eval_examples,
    item_counts,
    protocol,
)
from recray.data.events.split_data import DataConfig, split_as
from recray.data.events.splits import (
    Split,
    everything,
    leave_one_out,
    split_by_name,
)
from recray.schema import DataError, ProtocolCard
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
    try:
        split = split_by_name(dataset, kind)
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
    with pytest.raises(DataError, match="no user with anything to find in test: 1 with nothing to find"):
        eval_examples(dataset_of([(0, 1, 1), (0, 2, 2)]), split_of(2, [1], []), "test")


def test_nothing_held_out_is_nothing_to_measure_by() -> None:
    dataset = dataset_of([(0, 1, 1), (0, 2, 2)])
    with pytest.raises(DataError, match="all of made holds nothing out"):
        eval_examples(dataset, everything(dataset), "validation")


def test_the_card_counts_the_users_that_are_not_asked_and_says_why() -> None:
    rows = [(0, 1, 1), (0, 2, 2), (1, 1, 1), (1, 1, 3), (2, 3, 4), (3, 3, 1)]
    _, card = eval_examples(dataset_of(rows), split_of(6, [], [3, 4, 5]), "test")
    _, same = eval_examples(dataset_of(rows), split_of(6, [], [3, 4, 5]), "test")
    assert card.num_users == 1
    assert card.dropped == {NO_TARGET: 1, NO_TRAINING: 1, ALL_SEEN: 1}
    assert card.num_users + sum(card.dropped.values()) == 4
    assert ProtocolCard.from_json(card.to_json()) == card == replace(same, dropped={})
    assert card.learnt == "1970-01-01 to 1970-01-01"


def shown(choices: DataConfig, rows: list[Row], **made: Any) -> tuple[EvalExamples, ProtocolCard]:
    data = split_as(dataset_of(rows, **made), choices)
    return eval_examples(data.dataset, data.split, "test")


@settings(max_examples=60, deadline=None)
@given(rows, st.lists(st.booleans(), min_size=80, max_size=80), st.sampled_from(["remove", "keep"]))
def test_relevant_targets_match_a_slow_loop(made: list[Row], bought: list[bool], seen: Seen) -> None:
    types = ["buy" if b else "view" for b in bought[: len(made)]]
    if "buy" not in types:
        return  # that is no type then
    choices = DataConfig(target=("buy",), seen=seen)
    wanted = slow_last_relevant(made, types, seen)
    if not wanted:
        with pytest.raises(DataError, match="leaves no user with anything to find"):
            shown(choices, made, types=types)
        return
    examples, card = shown(choices, made, types=types)
    assert examples.queries.user_ids_B.tolist() == list(wanted)
    for b, (history, target) in enumerate(wanted.values()):
        assert examples.queries.history.row(b).tolist() == history
        assert examples.targets.row(b).tolist() == [target]
    assert (card.relevance, card.seen) == (
        "buy, of users with training history",
        "filtered" if seen == "remove" else "kept",
    )


def slow_last_relevant(made: list[Row], types: list[str], seen: Seen) -> dict[int, tuple[list[int], int]]:
    """user -> (items before its last purchase, what was bought), of the users who are asked."""
    events = sorted(zip(made, types, strict=True), key=lambda event: event[0][2])
    found, alone = {}, 0
    for user in range(1 + max(u for u, _, _ in made)):
        own = [(item, kind) for (u, item, _), kind in events if u == user]
        places = [n for n, (_, kind) in enumerate(own) if kind == "buy"]
        if not places or places[-2:][0] == 0:
            continue
        if len(places) == 1:
            alone += 1
            if alone % 2 == 0:
                continue  # it validates
        history = [item for item, _ in own[: places[-1]]]
        target = own[places[-1]][0]
        if seen == "keep" or target not in history:
            found[user] = history, target
    return found


CART = [(0, 1), (0, 2), (0, 2), (0, 2), (1, 2), (1, 3), (1, 1), (1, 1), (1, 1)]
DID = ["view", "view", "cart", "buy", "view", "view", "view", "cart", "buy"]
CARTS: list[Row] = [(u, i, n) for n, (u, i) in enumerate(CART)]


def test_view_cart_purchase_is_evaluated_by_choice_and_else_the_choices_are_offered() -> None:
    with pytest.raises(
        DataError, match=r"2 with only items.*seen to keep \(target .* of buy, cart, view\), or"
    ):
        shown(DataConfig(), CARTS, types=DID)
    for choices in (DataConfig(seen="keep"), DataConfig(repeats="merge")):
        examples, card = shown(choices, CARTS, types=DID)
        assert examples.targets.values_N.tolist() in ([2, 1], [1])  # one user is left with two items
        assert (card.seen, card.repeats) == (
            ("kept", "kept") if choices.seen == "keep" else ("filtered", "merged")
        )
    assert shown(DataConfig(target=("buy",), seen="keep"), CARTS, types=DID)[1].num_users == 1
    assert shown(DataConfig(target=("buy",), repeats="merge"), CARTS, types=DID)[1].num_users == 1


def test_what_models_may_know_at_test_is_a_choice() -> None:
    rows = [(0, item, item) for item in range(5)]
    history = {
        known: shown(DataConfig(known=known), rows)[0].queries.history.values_N.tolist()
        for known in ("training", "history")
    }
    assert history == {"training": [0, 1, 2], "history": [0, 1, 2, 3]}
    with pytest.raises(ConfigError, match="Fit it again"):
        shown(DataConfig(known="everything"), rows)
    split = leave_one_out(dataset := dataset_of(rows))
    again = replace(
        split,
        train_N=split.train_N | split.validation_N,
        validation_N=np.zeros(5, bool),
        known="everything",
    )
    examples, card = eval_examples(dataset, again, "test")
    assert examples.queries.history.values_N.tolist() == [0, 1, 2, 3]
    differ = card.held_out_otherwise(protocol(dataset, split, "test"))
    assert differ == ["known at test everything, here history"]


def test_the_card_says_what_was_measured() -> None:
    dataset = dataset_of([(u, i, 10 * i + u) for u in range(3) for i in range(5)])
    _, card = eval_examples(dataset, leave_one_out(dataset), "validation")
    assert (card.dataset, card.dataset_hash, card.split) == ("made", dataset.hash, "leave-one-out")
    assert (card.target, card.num_users, card.k_core) == ("validation", 3, 0)


def test_item_counts() -> None:
    dataset = dataset_of([(0, 1, 1), (0, 2, 2), (1, 1, 3)])
    assert item_counts(dataset, np.array([True, False, True])).tolist() == [0, 2, 0]


def test_a_sample_of_the_users_is_drawn_once_and_said() -> None:
    dataset = dataset_of([(user, (user + n) % 9, n) for user in range(40) for n in range(5)])
    whole, card = eval_examples(dataset, leave_one_out(dataset), "test")
    split = replace(leave_one_out(dataset), test_users=12)
    some, said = eval_examples(dataset, split, "test")
    again, _ = eval_examples(dataset, split, "test")
    rows = np.flatnonzero(np.isin(whole.queries.user_ids_B, some.queries.user_ids_B))
    wanted = whole.take(torch.from_numpy(rows))
    assert len(rows) == 12
    for one in (some, again):
        assert one.targets.values_N.tolist() == wanted.targets.values_N.tolist()
        assert one.queries.history.values_N.tolist() == wanted.queries.history.values_N.tolist()
        assert one.queries.request_times_B.tolist() == wanted.queries.request_times_B.tolist()
    assert (card.asked, said.asked) == ("40 users", "12 of 40 users, drawn once")
    assert list(said.differences(card)) == ["num_users", "sample"]
    assert "sample" not in card.to_json()
    assert len(eval_examples(dataset, split, "validation")[0].queries.user_ids_B) == 40
    with pytest.raises(ConfigError, match="test_users must not be negative, got -1"):
        DataConfig(test_users=-1)
