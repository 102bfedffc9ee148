"""The two-tower loss against a slow loop written from the paper, and what the towers are made of."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recray.batch import FeatureTables, PairBatch
from recray.config import ConfigError
from recray.data.batches.pairs import PairBatches
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.schema import Feature, FeatureSchema
from tests.data.made import dataset_of
from tests.planted import planted_queries

GENRES = Feature(name="genres", kind="ids", size=4, width=2)
AGE = Feature(name="age", kind="dense", size=0, width=1)
SCHEMA = FeatureSchema(num_users=5, num_items=4, user=(AGE,), item=(GENRES,))
TABLES = FeatureTables(
    {"age": torch.tensor([[0.1], [0.5], [-1.0], [2.0], [0.0]])},
    {"genres": torch.tensor([[1, 2], [3, 0], [0, 0], [2, 0]])},
)


def model(**changes: Any) -> TwoTower:
    torch.manual_seed(0)
    built = TwoTower(TwoTowerConfig(embedding_dim=3, dropout=0.0, **changes), SCHEMA)
    built.set_side_features(TABLES)
    return built


def slow_vector(tower: Any, row: int, features: dict[str, list[float]]) -> torch.Tensor:
    """A tower without MLP, by hand: id embedding plus the mean of each feature's embeddings."""
    total: torch.Tensor = tower.ids.weight[row].clone()
    for name, values in features.items():
        table = tower.tables[name]
        if isinstance(table, torch.nn.EmbeddingBag):
            present = [table.weight[int(v)] for v in values if v]
            total += sum(present) / len(present) if present else 0
        else:
            total += table.weight @ torch.tensor(values)
    return total


def slow_loss(tower: TwoTower, batch: PairBatch) -> float:
    total = 0.0
    size = len(batch.user_ids_B)
    users = [
        slow_vector(tower.user_tower, int(u), {"age": TABLES.user["age"][u].tolist()})
        for u in batch.user_ids_B
    ]
    items = [
        slow_vector(tower.item_tower, int(i), {"genres": TABLES.item["genres"][i].tolist()})
        for i in batch.item_ids_B
    ]
    for b in range(size):
        terms = {}
        for c in range(size):
            if c != b and batch.item_ids_B[c] == batch.item_ids_B[b]:
                continue  # the same item is not its own negative
            cosine = torch.cosine_similarity(users[b], items[c], dim=0).item()
            terms[c] = cosine / tower.temperature - batch.item_logq_B[c].item()
        total += math.log(sum(math.exp(t) for t in terms.values())) - terms[b]
    return total / size


def test_loss_matches_the_slow_loop() -> None:
    items_B = torch.tensor([0, 1, 1, 3])  # one repeated item
    logq_B = torch.log(torch.tensor([0.5, 0.2, 0.2, 0.1]))  # uneven popularity
    batch = PairBatch(torch.tensor([0, 1, 2, 4]), items_B, logq_B)
    built = model()
    torch.testing.assert_close(built.loss(batch)["loss"].item(), slow_loss(built, batch))


def test_side_features_are_used_and_can_be_left_out() -> None:
    with_features, without = model(), model(side_features=False)
    assert set(with_features.item_tower.tables) == {"genres"}
    assert not without.item_tower.tables
    before = with_features.item_vectors()
    changed = TABLES._replace(item={"genres": torch.tensor([[3, 0], [3, 0], [0, 0], [2, 0]])})
    with_features.set_side_features(changed)
    moved_I = (with_features.item_vectors() != before).any(dim=1)
    assert moved_I.tolist() == [True, False, False, False]


def test_vectors_have_unit_length_with_and_without_an_mlp() -> None:
    for built in (model(), model(hidden_dims=(8, 6))):
        torch.testing.assert_close(built.item_vectors().norm(dim=1), torch.ones(4))
        torch.testing.assert_close(built.query_vectors(planted_queries([1, 2])).norm(dim=1), torch.ones(2))


def test_an_unknown_user_is_the_mean_of_its_history() -> None:
    built = model()
    queries = planted_queries([-1])  # history: items 0 and 2
    mean_D = built.item_vectors()[[0, 2]].sum(dim=0)
    torch.testing.assert_close(built.query_vectors(queries)[0], mean_D / mean_D.norm())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0"),
        ({"embedding_dim": 0}, "embedding_dim must be at least 1"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_configs_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TwoTowerConfig(**changes)


def test_an_item_without_an_id_is_as_long_as_what_is_known_of_it() -> None:
    """Its vector is about the mean of the unit vectors that it would have, whatever its id were."""
    torch.manual_seed(0)
    tower = TwoTower(TwoTowerConfig(embedding_dim=64), SCHEMA).item_tower.eval()
    tower.set_rows(TABLES.item)
    tower.initialise(0.1)
    before_ID = tower(torch.arange(4))
    said_D = sum(feature_BD[0] for feature_BD in tower.of(torch.tensor([0])))
    length = tower.ids.all_rows()[1:].square().sum(dim=1).mean().sqrt()
    tower.ids.forget(torch.tensor([0]))
    after_ID = tower(torch.arange(4))
    assert torch.equal(after_ID[1:], before_ID[1:])  # of the others no bit moves
    ids_ND = length * F.normalize(torch.randn(20_000, 64), dim=1)
    torch.testing.assert_close(
        after_ID[0], F.normalize(said_D + ids_ND, dim=1).mean(dim=0), rtol=0.05, atol=0.01
    )
    assert 0.1 < after_ID[0].norm() < 0.9


def trained(workers: int, steps: int = 60) -> list[float]:
    """Losses of as many workers (or parts of a worker's share), one after the other as the loop would have
    them: each has its share of the batch, gradients are averaged.
    """
    rows = [(n * 7 % 40, n * n % 23, n) for n in range(600)]
    batches = PairBatches(dataset_of(rows), np.ones(600, dtype=bool), 100, seed=3, recency=5.0)
    torch.manual_seed(0)
    schema = FeatureSchema(num_users=40, num_items=23)
    net = TwoTower(TwoTowerConfig(embedding_dim=8, dropout=0.3, hidden_dims=(16,)), schema)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = []
    for number in range(steps):
        optimizer.zero_grad()
        total = 0.0
        for rank in range(workers):
            batch = batches.batch(number // batches.num_steps(), number % batches.num_steps(), rank, workers)
            torch.manual_seed(number)  # as draws_for_all asks
            share = net.loss(batch)["loss"] * batch.size / batch.total
            share.backward()
            total += share.item()
        optimizer.step()
        losses.append(total)
    return losses


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    """Neither negatives nor weights nor dropout."""
    alone = trained(1)
    assert trained(workers) == pytest.approx(alone, abs=1e-5)
    assert alone[-1] < alone[0] - 0.1
