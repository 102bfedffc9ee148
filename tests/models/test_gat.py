"""GAT: its loss against a slow loop written from the paper, and the vectors that it serves."""

import math
from typing import Any

import pytest
import torch

pytest.importorskip("torch_geometric")

from recray.batch import FeatureTables, GraphBatch, Hop, Messages, PairBatch
from recray.config import ConfigError
from recray.models.gat import GAT, GATConfig
from recray.schema import Feature, FeatureSchema
from tests.planted import planted_queries

GENRES = Feature(name="genres", kind="ids", size=4, width=2)
SCHEMA = FeatureSchema(num_users=4, num_items=5, item=(GENRES,))
TABLES = FeatureTables({}, {"genres": torch.tensor([[1, 2], [3, 0], [0, 0], [2, 0], [1, 0]])})


def model(**changes: object) -> GAT:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"embedding_dim": 6, "heads": 2, "layers": 2, "dropout": 0.0, **changes}
    built = GAT(GATConfig(**settings), SCHEMA)
    built.set_side_features(TABLES)
    for name, parameter in built.named_parameters():
        if name.endswith("bias"):  # zeros at first, which would hide a forgotten one
            torch.nn.init.normal_(parameter)
    return built


def messages(edges: list[tuple[int, int]], seed: int) -> Messages:
    edge_NF = torch.randn(len(edges), 3, generator=torch.Generator().manual_seed(seed))
    return Messages(torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T, edge_NF)


# Three pairs, two of one user, which hear different items: each has its own view of the user.
FIRST = Hop(
    torch.tensor([0, 1, 2]),
    torch.tensor([0, 1, 2, 3]),
    messages([(4, 0), (3, 0), (0, 1), (2, 1), (3, 1), (1, 2), (4, 2)], 1),
    messages([(3, 0), (2, 1), (0, 3), (1, 3)], 2),  # item 2 hears nothing
)
LAST = Hop(
    torch.tensor([1, 1, 2]),
    torch.tensor([0, 3]),
    messages([(1, 0), (2, 0), (3, 1)], 3),  # the last pair's user hears nothing
    messages([(0, 0), (1, 0), (2, 1)], 4),
)
BATCH = GraphBatch(
    PairBatch(
        torch.tensor([1, 1, 2]),
        torch.tensor([0, 3, 0]),
        torch.log(torch.tensor([0.3, 0.1, 0.3])),
        torch.tensor([1.0, 0.5, 0.2]),
    ),
    torch.arange(4),
    torch.arange(5),
    (FIRST, LAST),
)


def slow_attention(conv: Any, own_BD: torch.Tensor, sender_XD: torch.Tensor, found: Messages) -> torch.Tensor:
    """Equation 7: e = a LeakyReLU(W [h_i, h_j]), softmax over the neighbours of i, per head."""
    heads, dim = conv.heads, conv.out_channels
    rows = []
    for i, own_D in enumerate(own_BD):
        mine = [n for n, receiver in enumerate(found.edges_2N[1].tolist()) if receiver == i]
        heard = []
        for h in range(heads):
            cut = slice(h * dim, (h + 1) * dim)
            values, energies = [], []
            for n in mine:
                value = (conv.lin_l.weight @ sender_XD[found.edges_2N[0, n]] + conv.lin_l.bias)[cut]
                asked = (conv.lin_r.weight @ own_D + conv.lin_r.bias)[cut]
                edge = (conv.lin_edge.weight @ found.edge_NF[n])[cut]
                x = value + asked + edge
                energies.append(float(conv.att[0, h] @ torch.where(x > 0, x, 0.2 * x)))
                values.append(value)
            total = sum(math.exp(e) for e in energies)
            weights = [math.exp(e) / total for e in energies]
            heard.append(sum((w * v for w, v in zip(weights, values, strict=True)), torch.zeros(dim)))
        rows.append(own_D + torch.cat(heard) + conv.bias)
    return torch.stack(rows)


@torch.no_grad()
def slow_vectors(built: GAT, batch: GraphBatch) -> tuple[torch.Tensor, torch.Tensor]:
    user, item = built.user_tower(batch.user_ids_U), built.item_tower(batch.item_ids_I)
    for layer, hop in zip(built.layers, batch.hops, strict=True):
        own_users, own_items = user[hop.users_B], item[hop.items_J]
        user, item = (
            slow_attention(layer.to_users, own_users, item, hop.to_users),
            slow_attention(layer.to_items, own_items, user, hop.to_items),
        )
    return user, item


def test_loss_matches_the_slow_loop() -> None:
    built = model()
    user, item = slow_vectors(built, BATCH)
    items, logq_B, weight_B = BATCH.pairs.item_ids_B.tolist(), BATCH.pairs.item_logq_B, BATCH.pairs.weight_B
    assert weight_B is not None
    column = {0: 0, 3: 1}
    expected = 0.0
    for b in range(3):
        terms = {}
        for c in range(3):
            if c != b and items[c] == items[b]:
                continue  # the same item is not its own negative
            cosine = torch.cosine_similarity(user[b], item[column[items[c]]], dim=0).item()
            terms[c] = cosine / built.temperature - logq_B[c].item()
        loss = math.log(sum(math.exp(t) for t in terms.values())) - terms[b]
        expected += loss * float(weight_B[b] / weight_B.sum())
    assert built.loss(BATCH)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_every_parameter_learns() -> None:
    built = model()
    built.loss(BATCH)["loss"].backward()
    for parameter in built.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert float(parameter.grad.abs().sum()) > 0


def whole(parts: bool) -> list[Hop]:
    """FIRST's messages with all nodes as outputs, at once or users and items apart."""
    users, items = torch.arange(4), torch.arange(5)
    nothing, silence = torch.arange(0), messages([], 0)
    if not parts:
        return [Hop(users, items, FIRST.to_users, FIRST.to_items)]
    return [Hop(users, nothing, FIRST.to_users, silence), Hop(nothing, items, silence, FIRST.to_items)]


def test_refreshed_vectors_are_those_of_the_layers_over_the_whole_graph() -> None:
    built = model()
    layers = (whole(False)[0],) * 2
    user, item = slow_vectors(built, BATCH._replace(hops=layers))
    for parts in (False, True):
        built.train()
        built.refresh(whole(parts))
        assert built.training
        torch.testing.assert_close(built.user_UD, torch.nn.functional.normalize(user, dim=1))
        torch.testing.assert_close(built.item_vectors(), torch.nn.functional.normalize(item, dim=1))


def test_refreshed_vectors_travel_in_the_state_dict_without_a_graph() -> None:
    built, other = model(), model(side_features=True)
    built.refresh(whole(True))
    other.load_state_dict(built.state_dict())
    queries = planted_queries([1, 3, -1])
    assert torch.equal(other.score_items(queries), built.score_items(queries))


def test_known_users_have_their_vector_and_others_the_mean_of_their_history() -> None:
    built = model()
    built.refresh(whole(True))
    known, unknown = built.query_vectors(planted_queries([3, -1]))  # history of the second: items 0 and 2
    torch.testing.assert_close(known, built.user_UD[3])
    mean_D = built.item_vectors()[[0, 2]].sum(dim=0)
    torch.testing.assert_close(unknown, mean_D / mean_D.norm())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"heads": 5}, "heads 5 must divide embedding_dim 64"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_configs_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GATConfig(**changes)


def test_a_batch_of_another_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="the batch has 2 hops and the model 1 layers"):
        model(layers=1).loss(BATCH)
