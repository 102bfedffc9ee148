"""LightGCN and BPR-MF: layers, loss and gradients against slow loops written from the papers."""

import math
from typing import Any

import pytest
import torch

from recray.batch import PairBatch
from recray.config import ConfigError
from recray.models.lightgcn import LightGCN, LightGCNConfig
from recray.schema import DataError, FeatureSchema
from tests.planted import planted_queries

USERS, ITEMS = 5, 6
SCHEMA = FeatureSchema(num_users=USERS, num_items=ITEMS)
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (1, 3), (2, 3), (3, 0), (0, 1)]  # one twice; none of user 4


def new(**config: Any) -> LightGCN:
    torch.manual_seed(0)
    built = LightGCN(LightGCNConfig(**{"embedding_dim": 3, "layers": 2, "l2": 0.1, **config}), SCHEMA)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter)
    built.set_graph(*torch.tensor(PAIRS).T)
    return built


def slow_vectors(model: LightGCN) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Equations 3 and 4, a node at a time."""
    pairs = set(PAIRS)
    user, item = list(model.users.weight), list(model.items.weight)
    layers = [(user, item)]
    for _ in range(model.config.layers):
        new_user, new_item = [torch.zeros(3)] * USERS, [torch.zeros(3)] * ITEMS
        for u, i in sorted(pairs):
            root = math.sqrt(len([p for p in pairs if p[0] == u]) * len([p for p in pairs if p[1] == i]))
            new_user[u], new_item[i] = new_user[u] + item[i] / root, new_item[i] + user[u] / root
        user, item = new_user, new_item
        layers.append((user, item))
    users, items = zip(*layers, strict=True)
    return [sum(e, torch.zeros(3)) / len(layers) for e in zip(*users, strict=True)], [
        sum(e, torch.zeros(3)) / len(layers) for e in zip(*items, strict=True)
    ]


def slow_loss(model: LightGCN, batch: PairBatch, weights: list[float]) -> torch.Tensor:
    """Equation 15, a pair and a drawn item at a time."""
    assert batch.negative_ids_BK is not None
    user, item = slow_vectors(model)
    total = torch.zeros(())
    for u, i, drawn, weight in zip(
        batch.user_ids_B.tolist(),
        batch.item_ids_B.tolist(),
        batch.negative_ids_BK.tolist(),
        weights,
        strict=True,
    ):
        for j in drawn:
            order = -torch.log(1 / (1 + torch.exp(-(user[u] @ item[i] - user[u] @ item[j]))))
            start = model.users.weight[u], model.items.weight[i], model.items.weight[j]
            l2 = 0.5 * model.config.l2 * sum((e @ e for e in start), torch.zeros(()))
            total = total + weight / sum(weights) * (order + l2) / len(drawn)
    return total


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.1]])
def test_loss_and_gradients_are_those_of_the_slow_loop(layers: int, weights: list[float] | None) -> None:
    model = new(layers=layers)
    negatives_BK = torch.tensor([[4, 2], [0, 0], [5, 3]])
    batch = PairBatch(
        torch.tensor([0, 1, 1]),
        torch.tensor([1, 2, 3]),
        torch.zeros(3),
        None if weights is None else torch.tensor(weights),
        3,
        negatives_BK,
    )
    found, expected = model.loss(batch)["loss"], slow_loss(model, batch, weights or [1.0] * 3)
    torch.testing.assert_close(found, expected)
    tables = (model.users.weight, model.items.weight)
    for gradient, wanted in zip(
        torch.autograd.grad(found, tables), torch.autograd.grad(expected, tables), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


def test_what_is_served_is_the_mean_over_the_layers_and_needs_no_graph() -> None:
    model, other = new(), LightGCN(new().config, SCHEMA)
    model.refresh()
    user, item = slow_vectors(model)
    torch.testing.assert_close(model.user_UD, torch.stack(user))
    torch.testing.assert_close(model.item_vectors(), torch.stack(item))
    other.load_state_dict(model.state_dict())
    queries = planted_queries([1, 3, -1])
    assert torch.equal(other.score_items(queries), model.score_items(queries))


def test_its_graph_moves_with_it_and_is_not_in_its_state() -> None:
    model, nobody = new(), torch.zeros(0, dtype=torch.int64)
    names, moved = sorted(model.state_dict()), model.to("meta")
    assert names == ["item_ID", "items.weight", "user_UD", "users.weight"]
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}
    moved.set_graph(nobody, nobody)
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}


def test_a_forgotten_item_is_last() -> None:
    model = new()
    model.refresh()
    model.forget_items(torch.tensor([4]))
    scores_BI = model.score_items(planted_queries([0, -1]))
    assert (scores_BI[:, 4:5] < scores_BI[:, [0, 1, 2, 3, 5]]).all()


def test_wrong_settings_batches_and_ids_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="layers and l2 not negative, got 64, -1 and 0.0001"):
        LightGCNConfig(layers=-1)
    pairs = PairBatch(torch.tensor([0]), torch.tensor([1]), torch.zeros(1))
    with pytest.raises(ConfigError, match="LightGCN learns from negatives"):
        new().loss(pairs)
    with pytest.raises(DataError, match="item ids must be 0 or more and below 6"):
        new().set_graph(torch.tensor([0]), torch.tensor([6]))
