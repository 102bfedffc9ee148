"""Popularity against a count by hand."""

import collections
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from recray.batch import Jagged, QueryBatch
from recray.contract import Retriever, WholeLearner
from recray.models.popularity import Popularity, PopularityConfig
from recray.schema import DataError, FeatureSchema

SCHEMA = FeatureSchema(num_users=5, num_items=6)
USERS = torch.tensor([0, 0, 1, 4, 4, 4])
ITEMS = torch.tensor([3, 3, 3, 0, 5, 3])


def queries(num_queries: int) -> QueryBatch:
    empty = torch.zeros(0, dtype=torch.int64)
    offsets = torch.zeros(num_queries + 1, dtype=torch.int64)
    users = torch.full((num_queries,), -1)
    return QueryBatch(users, Jagged(empty, offsets), empty, torch.zeros(num_queries, dtype=torch.int64))


@pytest.fixture
def model() -> Popularity:
    model = Popularity(PopularityConfig(), SCHEMA)
    model.learn(USERS, ITEMS)
    return model


def test_scores_are_the_numbers_of_interactions(model: Popularity) -> None:
    counted = collections.Counter(ITEMS.tolist())
    scores = model.score_items(queries(3))
    assert scores.dtype == torch.float32
    assert scores.tolist() == [[float(counted[i]) for i in range(6)]] * 3


def test_rows_may_be_written_to_one_by_one(model: Popularity) -> None:
    scores = model.score_items(queries(2))
    scores[0, 3] = -1
    assert scores[1, 3] == model.score_items(queries(1))[0, 3] == 4


def test_counting_again_replaces_what_was_counted(model: Popularity) -> None:
    model.learn(torch.tensor([2]), torch.tensor([1]))
    assert model.counts_I.tolist() == [0, 1, 0, 0, 0, 0]
    model.learn(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert model.counts_I.sum() == 0


def sums_of(items: list[int], weights: list[str]) -> list[Fraction]:
    sums = [Fraction(0)] * SCHEMA.num_items
    for item, weight in zip(items, weights, strict=True):
        sums[item] += Fraction(weight)
    return sums


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["0", "0.1", "0.25", "1", "3", "7.3", "26"])),
        min_size=1,
        max_size=60,
    )
)
def test_weighted_scores_are_the_sums_of_the_weights_as_given_and_ties_are_ties(
    events: list[tuple[int, str]],
) -> None:
    items, weights = [item for item, _ in events], [weight for _, weight in events]
    model = Popularity(PopularityConfig(), SCHEMA)
    ids = torch.tensor(items)
    model.learn(torch.zeros_like(ids), ids, torch.tensor([float(weight) for weight in weights]))
    sums = sums_of(items, weights)
    assert model.counts_I.tolist() == [float(total) for total in sums]
    scores = model.score_items(queries(1))[0]
    assert torch.equal(scores, torch.tensor([float(total) for total in sums]))
    order = sorted(range(6), key=lambda item: (-sums[item], item))
    assert scores.argsort(descending=True, stable=True).tolist() == order


def test_weights_that_no_decimals_write_are_added_up_as_they_are() -> None:
    model = Popularity(PopularityConfig(), SCHEMA)
    weights_N = torch.tensor([1e-12, 2e-12, 3e-12, 1.0, 1e-12, 1e-12])
    model.learn(USERS, ITEMS, weights_N)
    assert model.counts_I[3].item() == sum(weights_N.double()[ITEMS == 3].tolist())


def test_a_version_whose_counts_were_whole_numbers_is_read(model: Popularity) -> None:
    older = Popularity(PopularityConfig(), SCHEMA)
    older.load_state_dict({"counts_I": model.counts_I.long()})
    assert torch.equal(older.score_items(queries(1)), model.score_items(queries(1)))


def test_weights_rebuild_the_model(model: Popularity, tmp_path: Path) -> None:
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    rebuilt = Popularity(PopularityConfig(), SCHEMA)
    rebuilt.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(rebuilt.score_items(queries(2)), model.score_items(queries(2)))


def test_keeps_the_contract(model: Popularity) -> None:
    assert isinstance(model, Retriever)
    assert isinstance(model, WholeLearner)


@pytest.mark.parametrize("items", [[0, 6], [-1, 2]])
def test_items_outside_the_catalogue_are_an_error(model: Popularity, items: list[int]) -> None:
    with pytest.raises(DataError, match=r"item ids must be in 0\.\.5"):
        model.learn(torch.tensor([0, 0]), torch.tensor(items))
