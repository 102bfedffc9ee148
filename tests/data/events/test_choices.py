"""What events mean: weights, what is to be found, and repeats merged, against slow loops."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.config import ConfigError
from recray.data.events.choices import EventChoices, interpret, type_weights
from recray.schema import DataError
from tests.data.made import Row, dataset_of

ROWS: list[Row] = [(0, 1, 0), (0, 2, 1), (1, 1, 2), (0, 1, 3), (1, 3, 4)]
TYPES = ["view", "cart", "view", "purchase", "view"]


def test_equal_weights_are_none_and_all_is_to_be_found() -> None:
    dataset = dataset_of(ROWS, types=TYPES, ratings=[1, 2, 3, 4, 5])
    same, meaning = interpret(dataset, EventChoices())
    assert same is dataset
    assert meaning == (None, "all", None)


def test_weights_by_type_are_as_given_and_what_is_not_named_is_never_learnt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = dataset_of(ROWS, types=TYPES)
    with caplog.at_level(logging.INFO, logger="recray.data.events.choices"):
        _, meaning = interpret(dataset, EventChoices(weights="cart=3,purchase=6"))
    assert meaning.weights_N is not None
    assert meaning.weights_N.tolist() == [0, 3, 0, 6, 0]
    assert "view weigh 0, so they are history" in caplog.text
    _, alike = interpret(dataset, EventChoices(weights="cart=2,purchase=2,view=2"))
    assert alike.weights_N is None


def test_ratings_weigh_where_it_was_asked_and_ratings_that_are_all_one_weigh_alike(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rated = dataset_of(ROWS, ratings=[1, 2, 3, 4, 5])
    weights_N = interpret(rated, EventChoices(weights="rating"))[1].weights_N
    assert weights_N is not None
    assert weights_N.tolist() == [1, 2, 3, 4, 5]
    assert not caplog.messages
    assert interpret(dataset_of(ROWS), EventChoices(weights="rating"))[1].weights_N is None
    assert "by weights 'rating' all events weigh alike" in caplog.text
    with pytest.raises(DataError, match="a rating of -1 cannot weigh"):
        interpret(dataset_of(ROWS, ratings=[1, -1, 1, 1, 1]), EventChoices(weights="rating"))
    with pytest.raises(DataError, match="no event has a weight above 0"):
        interpret(dataset_of(ROWS, ratings=[0] * 5), EventChoices(weights="rating"))


def test_what_is_to_be_found_is_of_a_type_and_of_a_least_rating() -> None:
    dataset = dataset_of(ROWS, types=TYPES, ratings=[1, 2, 3, 4, 5])
    _, meaning = interpret(dataset, EventChoices(target=("view", "cart"), relevant=2, weights="relevant"))
    assert meaning.relevant_N is not None
    assert meaning.weights_N is not None
    assert meaning.relevant_N.tolist() == [False, True, True, False, True]
    assert meaning.relevance == "cart, view, rating >= 2"
    np.testing.assert_array_equal(meaning.weights_N, meaning.relevant_N)
    with pytest.raises(DataError, match="ratings are 1 to 5, its types of events cart, purchase, view"):
        interpret(dataset, EventChoices(relevant=6))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9), st.sampled_from(["view", "buy"])),
        min_size=2,
        max_size=30,
    )
)
def test_merged_repeats_are_the_last_of_their_pair_and_weigh_as_all_of_them(
    events: list[tuple[int, int, int, str]],
) -> None:
    rows, types = [event[:3] for event in events], [event[3] for event in events]
    if len(set(types)) < 2:
        return  # one of the types is unknown then
    choices = EventChoices(repeats="merge", target=("buy",), weights="view=1,buy=3")
    merged, meaning = interpret(dataset_of(rows, types=types), choices)
    ordered = sorted(events, key=lambda event: event[2])
    pairs = [event[:2] for event in ordered]
    kept = [n for n, pair in enumerate(pairs) if pair not in pairs[n + 1 :]]
    assert merged.timestamps_N.tolist() == [ordered[n][2] for n in kept]
    assert list(zip(merged.user_ids_N, merged.item_ids_N, strict=True)) == [pairs[n] for n in kept]
    did = [[kind for *pair, _, kind in ordered if tuple(pair) == pairs[n]] for n in kept]
    assert meaning.relevant_N is not None
    assert meaning.relevant_N.tolist() == ["buy" in kinds for kinds in did]
    sums = np.array([sum(3 if kind == "buy" else 1 for kind in kinds) for kinds in did])
    if meaning.weights_N is None:
        assert len(set(sums)) == 1
    else:
        np.testing.assert_array_equal(meaning.weights_N, sums)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("ratin", "did you mean 'rating'"),
        ("view=1,cart", "give equal, rating, relevant or types such as"),
        ("view=x", "'x' is no weight"),
        ("view=-1", "'-1' is no weight"),
        ("view=nan", "'nan' is no weight"),
        ("view=0", "one of them at least above 0"),
        ("view=1,view=2", "each type one weight"),
    ],
)
def test_weights_that_say_nothing_are_refused_when_they_are_written(weights: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EventChoices(weights=weights)


def test_unknown_types_name_the_nearest() -> None:
    dataset = dataset_of(ROWS, types=TYPES)
    with pytest.raises(ConfigError, match="weights: made has no event type 'purchas', did you mean 'purch"):
        interpret(dataset, EventChoices(weights="purchas=1"))
    with pytest.raises(ConfigError, match="target: made has no event type 'buy'"):
        interpret(dataset, EventChoices(target=("buy",)))
    with pytest.raises(ConfigError, match="target names types of events, and made has none"):
        interpret(dataset_of(ROWS), EventChoices(target=("buy",)))
    assert type_weights("view = 1 , cart=2") == {"view": 1.0, "cart": 2.0}
