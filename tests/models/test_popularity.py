"""Popularity against a count by hand."""

import collections
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from recray.batch import Jagged, QueryBatch
from recray.contract import CountLearner, Retriever
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
    model.count(USERS, ITEMS)
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
    model.count(torch.tensor([2]), torch.tensor([1]))
    assert model.counts_I.tolist() == [0, 1, 0, 0, 0, 0]
    model.count(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert model.counts_I.sum() == 0


def test_weighted_counts_are_in_proportion_to_the_sums_and_do_not_know_their_scale() -> None:
    weights = [0.5, 3.0, 1.0, 0.25, 4.0, 0.0]
    model = Popularity(PopularityConfig(), SCHEMA)
    model.count(USERS, ITEMS, torch.tensor(weights))
    sums = [0.0] * 6
    for item, weight in zip(ITEMS.tolist(), weights, strict=True):
        sums[item] += weight
    scores = model.score_items(queries(1))[0]
    torch.testing.assert_close(scores / scores.max(), torch.tensor(sums) / max(sums))
    again = Popularity(PopularityConfig(), SCHEMA)
    again.count(USERS, ITEMS, 8 * torch.tensor(weights))
    assert torch.equal(again.counts_I, model.counts_I)
    assert model.counts_I.dtype == torch.int64


def test_weights_rebuild_the_model(model: Popularity, tmp_path: Path) -> None:
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    rebuilt = Popularity(PopularityConfig(), SCHEMA)
    rebuilt.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(rebuilt.score_items(queries(2)), model.score_items(queries(2)))


def test_keeps_the_contract(model: Popularity) -> None:
    assert isinstance(model, Retriever)
    assert isinstance(model, CountLearner)


@pytest.mark.parametrize("items", [[0, 6], [-1, 2]])
def test_items_outside_the_catalogue_are_an_error(model: Popularity, items: list[int]) -> None:
    with pytest.raises(DataError, match=r"item ids must be in 0\.\.5"):
        model.count(torch.tensor([0, 0]), torch.tensor(items))
