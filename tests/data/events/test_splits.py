"""Splits against slow loops, and the properties that all of them share."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.splits import Split, global_time, leave_one_out, random_ratio, split_by_name
from recray.data.events.splits import given as given_parts
from recray.data.source import ABSOLUTE_TIMES, POSITIONS, ROW_NUMBERS, TIMES_PER_USER
from recray.schema import DataError
from tests.data.made import Row, dataset_of

# Few distinct times, so that ties are everywhere.
rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 12)), min_size=20, max_size=80)
SPLITS: list[Callable[[Dataset], Split]] = [leave_one_out, global_time, random_ratio]


@pytest.mark.parametrize("split_of", SPLITS)
@settings(max_examples=40, deadline=None)
@given(rows)
def test_parts_are_disjoint_and_cover_everything(
    split_of: Callable[[Dataset], Split], made: list[Row]
) -> None:
    dataset = dataset_of(made)
    try:
        split = split_of(dataset)
    except DataError:
        return  # too few distinct times for a global boundary
    assert ((split.train_N.astype(int) + split.validation_N + split.test_N) == 1).all()


@settings(max_examples=60, deadline=None)
@given(rows)
def test_leave_one_out_matches_a_slow_loop(made: list[Row]) -> None:
    dataset = dataset_of(made)
    split = leave_one_out(dataset)
    validation, test = set(), set()
    for user in range(dataset.num_users):
        own = [n for n in range(len(dataset)) if dataset.user_ids_N[n] == user]
        if len(own) >= 3:
            test.add(own[-1])
            validation.add(own[-2])
    assert set(np.flatnonzero(split.test_N)) == test
    assert set(np.flatnonzero(split.validation_N)) == validation


@settings(max_examples=80, deadline=None)
@given(rows, st.lists(st.booleans(), min_size=80, max_size=80))
def test_leave_one_out_of_what_is_relevant_cuts_each_users_time_into_segments(
    made: list[Row], marks: list[bool]
) -> None:
    dataset = dataset_of(made)
    relevant_N = np.array(marks[: len(made)])
    split = leave_one_out(dataset, relevant_N)
    parts_N = split.validation_N + 2 * split.test_N
    assert ((split.train_N.astype(int) + split.validation_N + split.test_N) == 1).all()
    alone = 0
    for user in range(dataset.num_users):
        own = np.flatnonzero(dataset.user_ids_N == user)
        wanted = [n for n in range(len(own)) if relevant_N[own[n]]]
        validation = test = len(own)
        if len(wanted) >= 2 and wanted[-2] > 0:
            validation, test = wanted[-2:]
        elif len(wanted) == 1 and wanted[0] > 0:
            alone += 1
            validation, test = wanted[0], wanted[0] if alone % 2 else len(own)
        expected = [0] * validation + [1] * (test - validation) + [2] * (len(own) - test)
        assert parts_N[own].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(rows)
def test_where_all_is_relevant_leave_one_out_is_what_it_was(made: list[Row]) -> None:
    dataset = dataset_of(made)
    plain, marked = leave_one_out(dataset), leave_one_out(dataset, np.ones(len(dataset), bool))
    for part in ("train_N", "validation_N", "test_N"):
        np.testing.assert_array_equal(getattr(plain, part), getattr(marked, part))


def test_given_parts_are_taken_as_they_are_and_named_by_digest() -> None:
    rows = [(0, n, n) for n in range(6)]
    split = given_parts(dataset_of(rows, parts=[2, 0, 0, 1, 0, 2]))
    assert split.train_N.tolist() == [False, True, True, False, True, False]
    assert np.flatnonzero(split.validation_N).tolist() == [3]
    assert np.flatnonzero(split.test_N).tolist() == [0, 5]
    others = given_parts(dataset_of(rows, parts=[2, 0, 0, 1, 0, 0]))
    assert split.name.startswith("given(")
    assert split.name != others.name
    with pytest.raises(DataError, match="made was not given in parts"):
        given_parts(dataset_of(rows))
    with pytest.raises(DataError, match="leaves no interaction for test"):
        given_parts(dataset_of(rows, parts=[0, 0, 0, 1, 0, 0]))


def test_ties_of_leave_one_out_keep_the_order_of_the_file() -> None:
    dataset = dataset_of([(0, 5, 9), (0, 1, 9), (0, 3, 9), (0, 2, 9)])
    split = leave_one_out(dataset)
    assert dataset.item_ids_N[split.test_N].tolist() == [2]
    assert dataset.item_ids_N[split.validation_N].tolist() == [3]


@settings(max_examples=60, deadline=None)
@given(rows)
def test_global_time_boundaries_never_cut_through_a_moment(made: list[Row]) -> None:
    dataset = dataset_of(made)
    try:
        split = global_time(dataset)
    except DataError:
        return
    times = [set(dataset.timestamps_N[part]) for part in (split.train_N, split.validation_N, split.test_N)]
    assert max(times[0]) < min(times[1])
    assert max(times[1]) < min(times[2])
    # Whatever ties with a boundary follows it, so training never exceeds its share.
    assert split.train_N.sum() <= 0.8 * len(dataset)


def test_global_time_cuts_at_the_stated_fractions_without_ties() -> None:
    split = global_time(dataset_of([(0, n, n) for n in range(100)]))
    assert split.name == "global-time(0.8,0.1,0.1)"
    assert (split.train_N.sum(), split.validation_N.sum(), split.test_N.sum()) == (80, 10, 10)


def test_random_is_exact_and_a_function_of_its_seed() -> None:
    dataset = dataset_of([(n % 7, n, n) for n in range(200)])
    split = random_ratio(dataset, seed=3)
    assert split.name == "random(0.8,0.1,0.1,seed=3)"
    assert (split.train_N.sum(), split.validation_N.sum(), split.test_N.sum()) == (160, 20, 20)
    assert (split.test_N == random_ratio(dataset, seed=3).test_N).all()
    assert (split.test_N != random_ratio(dataset, seed=4).test_N).any()


def test_too_few_distinct_times_are_refused() -> None:
    with pytest.raises(DataError, match="1 distinct times"):
        global_time(dataset_of([(0, n, 5) for n in range(50)]))


def test_times_per_user_are_refused_for_a_global_boundary() -> None:
    dataset = dataset_of([(0, n, n) for n in range(50)], times=TIMES_PER_USER)
    with pytest.raises(DataError, match="leave-one-out"):
        global_time(dataset)


@pytest.mark.parametrize(("train", "validation"), [(0.9, 0.1), (0.0, 0.5), (0.8, -0.1), (float("nan"), 0.1)])
def test_fractions_that_leave_nothing_are_refused(train: float, validation: float) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        random_ratio(dataset_of([(0, n, n) for n in range(50)]), train, validation)


def test_names() -> None:
    dataset = dataset_of([(0, n, n) for n in range(50)])
    assert [
        split_by_name(dataset, n).name.split("(")[0] for n in ("leave-one-out", "global-time", "random")
    ] == [
        "leave-one-out",
        "global-time",
        "random",
    ]
    with pytest.raises(ConfigError, match="did you mean 'leave-one-out'"):
        split_by_name(dataset, "leave_one_out")


@pytest.mark.parametrize(
    ("split", "times", "in_time"),
    [
        ("leave-one-out", ABSOLUTE_TIMES, True),
        ("leave-one-out", POSITIONS, True),
        ("leave-one-out", ROW_NUMBERS, False),
        ("random", ABSOLUTE_TIMES, False),
        ("given", ABSOLUTE_TIMES, True),
        ("given", POSITIONS, False),
        ("all", ABSOLUTE_TIMES, True),
    ],
)
def test_a_split_knows_whether_what_is_held_out_comes_later(split: str, times: str, in_time: bool) -> None:
    rows: list[Row] = [(user, n, 10 * user + n) for user in range(4) for n in range(5)]
    dataset = dataset_of(rows, times=times, parts=[0, 0, 0, 1, 2] * 4)
    found = split_by_name(dataset, split)
    assert found.in_time is in_time
    assert found.learning("all").in_time is in_time


def test_given_parts_that_mix_are_not_in_time() -> None:
    dataset = dataset_of([(0, n, n) for n in range(5)], parts=[0, 0, 2, 0, 1])
    assert not split_by_name(dataset, "given").in_time
