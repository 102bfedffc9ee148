"""ItemKNN against loops written from its equation."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from recray.batch import Jagged, QueryBatch
from recray.config import ConfigError
from recray.contract import Retriever, WholeLearner
from recray.models.item_knn import ItemKNN, ItemKNNConfig
from recray.schema import DataError, FeatureSchema

NUM_USERS, NUM_ITEMS = 30, 25
SCHEMA = FeatureSchema(num_users=NUM_USERS, num_items=NUM_ITEMS)


@pytest.fixture(scope="module")
def interactions() -> tuple[torch.Tensor, torch.Tensor]:
    """With repeats; items 23 and 24 have none."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(NUM_USERS, size=300)), torch.from_numpy(rng.integers(23, size=300))


def slow_neighbors(
    users: list[int], items: list[int], k: int, shrink: float, a: float = 0.5, power: float = 0.0
) -> list[dict[int, float]]:
    """For every item, its most similar items and their similarities."""
    takers = [{u for u, i in zip(users, items, strict=True) if i == j} for j in range(NUM_ITEMS)]
    entry = {u: 1 / sum(u in taker for taker in takers) ** power for u in users}
    damping = (shrink + 1e-6) * max(entry.values()) ** 2
    square = [sum(entry[u] ** 2 for u in taker) for taker in takers]
    found = []
    for j in range(NUM_ITEMS):
        cosine = {
            i: sum(entry[u] ** 2 for u in takers[i] & takers[j])
            / (square[i] ** a * square[j] ** (1 - a) + damping)
            for i in range(NUM_ITEMS)
            if i != j
        }
        best = sorted(cosine, key=lambda i: (-np.float32(cosine[i]), i))[:k]
        found.append({i: cosine[i] for i in best if cosine[i] > 0})
    return found


def fitted(interactions: tuple[torch.Tensor, torch.Tensor], config: ItemKNNConfig) -> ItemKNN:
    model = ItemKNN(config, SCHEMA)
    model.learn(*interactions)
    return model


def queries(histories: list[list[int]]) -> QueryBatch:
    history = Jagged.from_rows(histories)
    users = torch.full((len(histories),), -1)
    return QueryBatch(users, history, torch.zeros_like(history.values_N), torch.zeros_like(users))


@pytest.mark.parametrize(("k", "shrink"), [(3, 0.0), (7, 2.5), (100, 0.0)])
def test_scores_match_the_slow_loop(
    interactions: tuple[torch.Tensor, torch.Tensor], k: int, shrink: float
) -> None:
    model = fitted(interactions, ItemKNNConfig(num_neighbors=k, shrink=shrink))
    neighbors = slow_neighbors(interactions[0].tolist(), interactions[1].tolist(), k, shrink)
    histories = [[4, 9, 1], [], [20, 20, 3, 20], [24], list(range(NUM_ITEMS))]
    scores = model.score_items(queries(histories))
    assert scores.dtype == torch.float32
    for b, history in enumerate(histories):
        for j in range(NUM_ITEMS):
            expected = sum(neighbors[j].get(i, 0.0) for i in set(history))
            assert scores[b, j].item() == pytest.approx(expected, abs=1e-5), (b, j)


@pytest.mark.parametrize(("a", "power"), [(0.7, 0.0), (0.5, 0.5), (0.2, 1.0)])
def test_asymmetry_users_lengths_and_recency_match_the_slow_loop(
    interactions: tuple[torch.Tensor, torch.Tensor], a: float, power: float
) -> None:
    config = ItemKNNConfig(num_neighbors=7, shrink=1.0, asymmetry=a, user_normalization=power, recency=2.0)
    neighbors = slow_neighbors(interactions[0].tolist(), interactions[1].tolist(), 7, 1.0, a, power)
    scores = fitted(interactions, config).score_items(queries([[4, 9, 1]]))
    counts = {4: 0.1 + math.exp(-2 / 2.0), 9: 0.1 + math.exp(-1 / 2.0), 1: 1.1}
    for j in range(NUM_ITEMS):
        expected = sum(counts[i] * neighbors[j].get(i, 0.0) for i in counts)
        assert scores[0, j].item() == pytest.approx(expected, abs=1e-5), j


@pytest.mark.parametrize("shrink", [0.0, 2.5])
def test_weighted_cosines_match_the_slow_loop(
    interactions: tuple[torch.Tensor, torch.Tensor], shrink: float
) -> None:
    weights_N = torch.arange(300).remainder(5).float() + 0.5
    model = ItemKNN(ItemKNNConfig(num_neighbors=NUM_ITEMS, shrink=shrink), SCHEMA)
    model.learn(*interactions, weights_N)
    best = np.zeros((NUM_USERS, NUM_ITEMS))
    for user, item, weight in zip(*(part.tolist() for part in (*interactions, weights_N)), strict=True):
        best[user, item] = max(best[user, item], weight / 4.5)
    for j in range(NUM_ITEMS):
        found = dict(zip(model.neighbor_ids_IK[j].tolist(), model.similarities_IK[j].tolist(), strict=True))
        for i in range(NUM_ITEMS):
            dot = sum(best[u, i] * best[u, j] for u in range(NUM_USERS))
            norms = math.sqrt(sum(best[:, i] ** 2)) * math.sqrt(sum(best[:, j] ** 2))
            expected = 0.0 if i == j else dot / (norms + shrink + 1e-6)
            assert found.get(i, 0.0) == pytest.approx(expected, abs=1e-5)
    again = ItemKNN(ItemKNNConfig(num_neighbors=NUM_ITEMS, shrink=shrink), SCHEMA)
    again.learn(*interactions, 4 * weights_N)
    assert torch.equal(again.similarities_IK, model.similarities_IK)


@pytest.mark.parametrize("weight", [None, 0.1, 7.3])
def test_equal_cosines_tie_whatever_the_lengths_behind_them(weight: float | None) -> None:
    """One user in common, of 6 and 6 users and of 1 and 36."""
    pairs = [*((user, 1) for user in range(6)), *((user, 2) for user in range(5, 11))]
    pairs += [(0, 3), *((user, 4) for user in range(36))]
    users, items = (torch.tensor(ids) for ids in zip(*pairs, strict=True))
    model = ItemKNN(ItemKNNConfig(num_neighbors=NUM_ITEMS), SCHEMA)
    model.learn(users, items, None if weight is None else torch.full((len(pairs),), weight))
    cosines = [
        model.similarities_IK[i, model.neighbor_ids_IK[i].tolist().index(j)].item()
        for i, j in [(1, 2), (2, 1), (3, 4), (4, 3)]
    ]
    assert set(cosines) == {float(np.float32(1 / (6 + 1e-6)))}


def test_equal_weights_are_no_weights(interactions: tuple[torch.Tensor, torch.Tensor]) -> None:
    plain, model = (ItemKNN(ItemKNNConfig(), SCHEMA) for _ in range(2))
    plain.learn(*interactions)
    model.learn(*interactions, torch.full((300,), 3.0))
    assert torch.equal(plain.similarities_IK, model.similarities_IK)


def test_neighbours_are_sorted_and_never_the_item_itself(
    interactions: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model = fitted(interactions, ItemKNNConfig(num_neighbors=6))
    assert model.neighbor_ids_IK.shape == model.similarities_IK.shape == (NUM_ITEMS, 6)
    assert (model.similarities_IK.diff(dim=1) <= 0).all()
    own = model.neighbor_ids_IK == torch.arange(NUM_ITEMS)[:, None]
    assert (model.similarities_IK[own] == 0).all()
    assert model.similarities_IK.max() <= 1


def test_equal_similarities_go_to_the_lower_item() -> None:
    # One user took everything: all similarities are equal.
    users, items = torch.zeros(NUM_ITEMS, dtype=torch.int64), torch.arange(NUM_ITEMS)
    model = fitted((users, items), ItemKNNConfig(num_neighbors=3))
    assert model.neighbor_ids_IK[10].tolist() == [0, 1, 2]
    assert model.neighbor_ids_IK[1].tolist() == [0, 2, 3]


def test_blocks_do_not_matter(
    interactions: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted(interactions, ItemKNNConfig(num_neighbors=5))
    monkeypatch.setattr("recray.models.item_knn.BLOCK_CELLS", 4 * NUM_ITEMS)
    parts = fitted(interactions, ItemKNNConfig(num_neighbors=5))
    assert torch.equal(whole.neighbor_ids_IK, parts.neighbor_ids_IK)
    assert torch.equal(whole.similarities_IK, parts.similarities_IK)


def test_repeats_count_once(interactions: tuple[torch.Tensor, torch.Tensor]) -> None:
    users, items = interactions
    once = fitted(interactions, ItemKNNConfig())
    twice = fitted((torch.cat([users, users]), torch.cat([items, items])), ItemKNNConfig())
    assert torch.equal(once.similarities_IK, twice.similarities_IK)
    scores = once.score_items(queries([[3, 8], [8, 3, 3, 8]]))
    assert torch.equal(scores[0], scores[1])


def test_a_query_scores_alike_alone_and_in_a_batch_and_is_left_alone(
    interactions: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model = fitted(interactions, ItemKNNConfig())
    batch = queries([[7, 2, 7, 1], [5], [22, 0]])
    scores = model.score_items(batch)
    assert torch.equal(model.score_items(batch.slice(2, 3)), scores[2:])
    assert batch.history.values_N.tolist() == [7, 2, 7, 1, 5, 22, 0]


def test_weights_rebuild_the_model(interactions: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    model = fitted(interactions, ItemKNNConfig(num_neighbors=4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    rebuilt = ItemKNN(ItemKNNConfig(num_neighbors=4), SCHEMA)
    assert rebuilt.score_items(queries([[4]])).abs().sum() == 0
    rebuilt.load_state_dict(load_file(tmp_path / "model.safetensors"))
    batch = queries([[4, 9], [24], [1, 2, 3]])
    assert torch.equal(rebuilt.score_items(batch), model.score_items(batch))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_module_that_holds_one_loads_it_too(interactions: tuple[torch.Tensor, torch.Tensor]) -> None:
    holder = torch.nn.ModuleDict({"knn": fitted(interactions, ItemKNNConfig())})
    rebuilt = torch.nn.ModuleDict({"knn": ItemKNN(ItemKNNConfig(), SCHEMA)})
    rebuilt.load_state_dict(holder.state_dict())
    batch = queries([[4, 9]])
    again, before = rebuilt["knn"], holder["knn"]
    assert isinstance(again, ItemKNN)
    assert isinstance(before, ItemKNN)
    assert torch.equal(again.score_items(batch), before.score_items(batch))


def test_keeps_the_contract() -> None:
    model = ItemKNN(ItemKNNConfig(), SCHEMA)
    assert isinstance(model, Retriever)
    assert isinstance(model, WholeLearner)


def test_nothing_counted_scores_nothing() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    model = fitted((none, none), ItemKNNConfig())
    assert model.score_items(queries([[1, 2]])).abs().sum() == 0


def test_wrong_settings_and_ids_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="num_neighbors must be at least 1, got 0"):
        ItemKNNConfig(num_neighbors=0)
    with pytest.raises(ConfigError, match=r"shrink must not be negative, got -1\.0"):
        ItemKNNConfig(shrink=-1.0)
    with pytest.raises(ConfigError, match="asymmetry must be from 0 to 1, got 2"):
        ItemKNNConfig(asymmetry=2)
    with pytest.raises(ConfigError, match="must not be negative, got 0.0 and -3"):
        ItemKNNConfig(recency=-3)
    model = ItemKNN(ItemKNNConfig(), SCHEMA)
    with pytest.raises(DataError, match=r"item ids must be 0 or more and below 25, got 3\.\.25"):
        model.learn(torch.tensor([0, 1]), torch.tensor([3, 25]))
    with pytest.raises(DataError, match=r"user ids must be 0 or more, got -1\.\.0"):
        model.learn(torch.tensor([0, -1]), torch.tensor([3, 4]))
