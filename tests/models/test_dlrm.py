"""DLRM against slow loops written from the papers, and what its parts promise."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from recray.batch import KeyedJagged, RankingBatch
from recray.config import ConfigError, from_dict, to_dict
from recray.losses import bce, lambdarank
from recray.models.dlrm import DLRM, CrossNetwork, DenseScaler, DLRMConfig, PiecewiseLinear, Scaling
from recray.ops.embedding_bags import EmbeddingConfig
from recray.schema import RowSchema, SparseFeature

SPARSE = (
    SparseFeature(name="item", size=7),
    SparseFeature(name="genres", size=5, multi_hot=True),
    SparseFeature(name="city", size=4),
)
SCHEMA = RowSchema(dense=("price", "age"), sparse=SPARSE)
SMALL: dict[str, Any] = {"embedding_dim": 4, "bottom": (8,), "top": (8, 6)}
GENRES = [[1, 4], [], [2]]  # the second row has none
NAN = float("nan")


def model(schema: RowSchema = SCHEMA, seed: int = 0, **changes: Any) -> DLRM:
    return DLRM(DLRMConfig(**{**SMALL, **changes}), schema, seed=seed)


def batch(offsets: list[int] | None = None, labels: tuple[float, ...] = (1.0, 0.0, 1.0)) -> RankingBatch:
    values = [3, 6, 0, *(g for row in GENRES for g in row), 1, 2, 3]
    lengths_FB = torch.tensor([[1, 1, 1], [len(row) for row in GENRES], [1, 1, 1]])
    return RankingBatch(
        dense_BF=torch.tensor([[2.0, 30.0], [NAN, 5.0], [-1.0, NAN]]),
        sparse=KeyedJagged(("item", "genres", "city"), torch.tensor(values), lengths_FB),
        labels_B=torch.tensor(labels),
        offsets_S=None if offsets is None else torch.tensor(offsets),
    )


def empty(offsets: list[int] | None = None) -> RankingBatch:
    sparse = KeyedJagged(
        ("item", "genres", "city"), torch.zeros(0, dtype=torch.int64), torch.zeros(3, 0).long()
    )
    offsets_S = None if offsets is None else torch.tensor(offsets)
    return RankingBatch(torch.zeros(0, 2), sparse, torch.zeros(0), offsets_S)


def slow_vectors(built: DLRM, b: int) -> list[torch.Tensor]:
    """The bottom MLP's vector of row b, then one per category; several ids are averaged."""
    state, ids = built.state_dict(), {"item": [3, 6, 0], "city": [1, 2, 3]}
    dense = [0.0 if math.isnan(x) else math.log(1 + max(x, 0.0)) for x in batch().dense_BF[b].tolist()]
    x = torch.tensor(dense)
    for layer in (0, 2):
        x = torch.relu(state[f"bottom.{layer}.weight"] @ x + state[f"bottom.{layer}.bias"])
    genres = [state["embeddings.genres"][g] for g in GENRES[b]]
    return [
        x,
        state["embeddings.item"][ids["item"][b]],
        sum(genres) / len(genres) if genres else torch.zeros(4),
        state["embeddings.city"][ids["city"][b]],
    ]


def slow_top(built: DLRM, x: torch.Tensor) -> float:
    state = built.state_dict()
    for layer in (0, 2):
        x = torch.relu(state[f"top.{layer}.weight"] @ x + state[f"top.{layer}.bias"])
    return float(state["top.4.weight"][0] @ x + state["top.4.bias"][0])


def test_dot_interaction_matches_the_slow_loop() -> None:
    built = model().eval()
    for b, logit in enumerate(built.score(batch()).tolist()):
        vectors = slow_vectors(built, b)
        products = [(u * v).sum() for i, u in enumerate(vectors) for v in vectors[i + 1 :]]
        assert len(products) == 6
        expected = slow_top(built, torch.cat([vectors[0], torch.stack(products)]))
        assert logit == pytest.approx(expected, rel=1e-5)


def test_concat_interaction_matches_the_slow_loop() -> None:
    built = model(interaction="concat").eval()
    for b, logit in enumerate(built.score(batch()).tolist()):
        assert logit == pytest.approx(slow_top(built, torch.cat(slow_vectors(built, b))), rel=1e-5)


@pytest.mark.parametrize("interaction", ["dot", "dcnv2"])
def test_the_linear_part_adds_the_columns_and_the_vectors_of_categories(interaction: str) -> None:
    built, plain = (model(linear=linear, interaction=interaction).eval() for linear in (True, False))
    weights = built.state_dict()["linear.weight"][0]
    for b, (logit, without) in enumerate(
        zip(*(m.score(batch()).tolist() for m in (built, plain)), strict=True)
    ):
        of_ids = torch.cat(slow_vectors(built, b)[1:])
        columns = [0.0 if math.isnan(x) else math.log(1 + max(x, 0.0)) for x in batch().dense_BF[b].tolist()]
        expected = sum(w * x for w, x in zip(weights, [*columns, *of_ids], strict=True))
        assert logit - without == pytest.approx(float(expected), abs=1e-5)
    only = model(RowSchema(dense=(), sparse=SPARSE), linear=True).eval()
    assert only.score(batch()._replace(dense_BF=torch.zeros(3, 0))).shape == (3,)


def test_cross_network_matches_the_slow_loop() -> None:
    torch.manual_seed(0)
    network = CrossNetwork(num_vectors=2, dim=3, num_layers=2, rank=2)
    vectors_BVD = torch.randn(4, 2, 3)
    for b, crossed in enumerate(network(vectors_BVD)):
        first = x = vectors_BVD[b].flatten()
        for V, W in zip(network.narrow, network.widen, strict=True):
            assert isinstance(V, nn.Linear)
            assert isinstance(W, nn.Linear)
            low = [torch.stack([V.weight[r, j] * x[j] for j in range(6)]).sum() for r in range(2)]
            wide = [
                torch.stack([W.weight[i, r] * low[r] for r in range(2)]).sum() + W.bias[i] for i in range(6)
            ]
            x = torch.stack([first[i] * wide[i] + x[i] for i in range(6)])
        torch.testing.assert_close(crossed, x)


def test_loss_is_bce_of_rows_or_of_grades() -> None:
    built = model().eval()
    logits_B = built.score(batch())
    torch.testing.assert_close(built.loss(batch())["loss"], bce(logits_B, torch.tensor([1.0, 0.0, 1.0])))
    graded = model(positive_grade=3.0).eval()
    of_grades = graded.loss(batch(labels=(4.0, 2.0, 3.0)))["loss"]
    torch.testing.assert_close(of_grades, bce(logits_B, torch.tensor([1.0, 0.0, 1.0])))


def test_loss_of_sessions_is_a_mean_over_sessions() -> None:
    schema = RowSchema(dense=SCHEMA.dense, sparse=SPARSE, sessions=True)
    grades = (2.0, 0.0, 1.0)
    for loss in ("bce", "lambdarank"):
        built = model(schema, loss=loss, ndcg_at=2).eval()
        logits_B, labels_B = built.score(batch()), torch.tensor(grades)
        found = built.loss(batch([0, 2, 3], grades))["loss"]
        if loss == "bce":
            torch.testing.assert_close(found, bce(logits_B, (labels_B >= 1).float()) * 3 / 2)
        else:
            torch.testing.assert_close(found, lambdarank(logits_B, labels_B, torch.tensor([0, 2, 3]), k=2))


@pytest.mark.parametrize(("loss", "offsets"), [("bce", None), ("bce", [0]), ("lambdarank", [0])])
def test_an_empty_share_has_a_zero_loss_and_gradients_of_zero(loss: str, offsets: list[int] | None) -> None:
    schema = RowSchema(dense=SCHEMA.dense, sparse=SPARSE, sessions=offsets is not None)
    built = model(schema, loss=loss)
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    value = built.loss(empty(offsets))["loss"]
    value.backward()
    assert value.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in built.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in built.state_dict().items())


def test_tables_learn_in_the_backward_pass_and_are_no_parameters() -> None:
    built = model(embedding=EmbeddingConfig(lr=0.1))
    assert not any("embeddings" in name for name, _ in built.named_parameters())
    before = {name: tensor.clone() for name, tensor in built.state_dict().items() if "embeddings" in name}
    assert set(before) == {"embeddings.item", "embeddings.genres", "embeddings.city"}
    built.loss(batch())["loss"].backward()
    moved = (built.state_dict()["embeddings.item"] != before["embeddings.item"]).any(dim=1)
    assert moved.tolist() == [n in (3, 6, 0) for n in range(7)]


@pytest.mark.parametrize("interaction", ["dot", "concat", "dcnv2"])
@pytest.mark.parametrize("columns", ["both", "dense", "sparse"])
def test_every_interaction_fits_every_kind_of_columns(interaction: str, columns: str) -> None:
    schema = RowSchema(
        dense=SCHEMA.dense if columns != "sparse" else (), sparse=SPARSE if columns != "dense" else ()
    )
    one = batch()
    if columns == "dense":
        nothing = torch.zeros(0, dtype=torch.int64)
        one = one._replace(sparse=KeyedJagged((), nothing, torch.zeros(0, 3).long()))
    if columns == "sparse":
        one = one._replace(dense_BF=torch.zeros(3, 0))
    logits_B = model(schema, interaction=interaction, cross_rank=3).score(one)
    assert logits_B.shape == (3,)
    assert logits_B.isfinite().all()


def test_it_learns_an_interaction_that_no_column_shows_alone() -> None:
    schema = RowSchema(dense=(), sparse=(SPARSE[0], SPARSE[2]))
    built = model(schema, embedding=EmbeddingConfig(lr=0.1))
    optimizer = torch.optim.AdamW(built.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)

    def draw() -> RankingBatch:
        ids_FB = torch.stack([torch.randint(n, (128,), generator=generator) for n in (7, 4)])
        sparse = KeyedJagged(("item", "city"), ids_FB.flatten(), torch.ones(2, 128).long())
        return RankingBatch(torch.zeros(128, 0), sparse, ((ids_FB[0] + ids_FB[1]) % 2).float())

    for _ in range(150):
        optimizer.zero_grad()
        built.loss(draw())["loss"].backward()
        optimizer.step()
    assert built.eval().loss(draw())["loss"].item() < 0.1


def test_dense_columns_are_scaled_by_the_training_part() -> None:
    dense_BF = torch.tensor([[0.0, NAN], [-5.0, 3.0], [100.0, 7.0]])
    # Smallest, largest, mean, standard deviation; the second column is constant.
    stats_4F = torch.tensor([[-2.0, 3.0], [10.0, 3.0], [4.0, 3.0], [3.0, 0.0]])
    expected: dict[Scaling, list[list[float]]] = {
        "log1p": [[math.log(3), 0.0], [0.0, 0.0], [math.log(103), math.log(5)]],
        "minmax": [[2 / 12, 0.0], [0.0, 0.0], [1.0, 1.0]],  # cut to the range; a constant column is 0 or 1
        "standard": [[-math.log(1 + 4 / 3), 0.0], [-math.log(4), 0.0], [math.log(33), math.log(5)]],
        "none": [[0.0, 0.0], [-5.0, 3.0], [100.0, 7.0]],
    }
    for method, rows in expected.items():
        scaler = DenseScaler(2, method)
        scaler.stats_4F.copy_(stats_4F)
        torch.testing.assert_close(scaler(dense_BF), torch.tensor(rows))


def test_bins_are_piecewise_linear_between_quantiles() -> None:
    """Equation 1 of the paper by a slow loop; the second column is constant, the third was never there."""
    dense_NF = np.array([[0.0, 3.0, NAN], [1.0, 3.0, NAN], [NAN, 3.0, NAN], [3.0, 3.0, NAN], [9.0, 3.0, NAN]])
    bins = PiecewiseLinear(3, 3)
    bins.fit(dense_NF.astype(np.float32))
    edges = [0.0, 1.0, 3.0, 9.0]
    torch.testing.assert_close(bins.edges_FE[0], torch.tensor(edges))
    asked = [-1.0, 0.25, 1.0, 6.0, 12.0, NAN]
    found = bins(torch.tensor([[value, value, value] for value in asked])).tolist()
    for row, value in zip(found, asked, strict=True):
        expected = []
        for low, high in itertools.pairwise(edges):
            through = 0.0 if math.isnan(value) or value < low else min((value - low) / (high - low), 1.0)
            expected.append(through)
        assert row == pytest.approx([*expected, *[0.0] * 6])


def test_bins_travel_with_the_weights() -> None:
    built, fresh = model(bins=4, linear=True).eval(), model(bins=4, linear=True, seed=5).eval()
    built.set_dense_rows(batch().dense_BF.numpy())
    assert not torch.equal(built.score(batch()), model(bins=4, linear=True).eval().score(batch()))
    fresh.load_state_dict({name: tensor.clone() for name, tensor in built.state_dict().items()})
    assert torch.equal(fresh.score(batch()), built.score(batch()))


def test_weights_start_as_the_seed_says_and_with_the_papers_variance() -> None:
    a, b, other = model(), model(), model(seed=1)
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name])
    assert not torch.equal(a.state_dict()["top.0.weight"], other.state_dict()["top.0.weight"])
    assert not torch.equal(a.state_dict()["embeddings.item"], other.state_dict()["embeddings.item"])
    wide = model(bottom=(400,), top=(600,)).state_dict()
    assert wide["bottom.0.weight"].std().item() == pytest.approx(math.sqrt(2 / 402), rel=0.1)
    assert wide["top.0.bias"].std().item() == pytest.approx(math.sqrt(1 / 600), rel=0.1)


def test_config_and_weights_rebuild_it() -> None:
    built = model(dropout=0.5, dense="minmax")
    built.set_dense_stats(*torch.tensor([[-1.0, 0.0], [2.0, 90.0], [0.5, 30.0], [1.0, 20.0]]))
    rebuilt = DLRM(from_dict(DLRMConfig, to_dict(built.config)), SCHEMA, seed=7)
    rebuilt.load_state_dict({name: tensor.clone() for name, tensor in built.state_dict().items()})
    assert torch.equal(rebuilt.eval().score(batch()), built.eval().score(batch()))


def test_some_ids_are_unknown_while_training_only() -> None:
    built, plain = model(unknown=0.5), model()
    torch.manual_seed(0)
    assert not torch.equal(built.score(batch()), plain.score(batch()))
    assert torch.equal(built.eval().score(batch()), plain.score(batch()))
    before = model().state_dict()["embeddings.city"]
    built.train()
    for _ in range(5):
        built.loss(batch())["loss"].backward()
    assert (built.state_dict()["embeddings.city"][0] != before[0]).any()  # no row has city 0


def test_ignored_categories_do_not_count() -> None:
    built = model(ignore=("genres",)).eval()
    assert {name for name in built.state_dict() if "embeddings" in name} == {
        "embeddings.item",
        "embeddings.city",
    }
    one = batch()
    values_N = one.sparse.values_N.clone()
    values_N[3:6] = 0  # the genres
    assert torch.equal(
        built.score(one), built.score(one._replace(sparse=one.sparse._replace(values_N=values_N)))
    )
    with pytest.raises(ConfigError, match="no category 'genre' in the data, did you mean 'genres'"):
        model(ignore=("genre",))


def test_the_order_of_keys_does_not_matter() -> None:
    built, one = model().eval(), batch()
    keys, values_N = ("city", "item", "genres"), one.sparse.values_N[[6, 7, 8, 0, 1, 2, 3, 4, 5]]
    turned = one._replace(sparse=KeyedJagged(keys, values_N, one.sparse.lengths_FB[[2, 0, 1]]))
    assert torch.equal(built.score(turned), built.score(one))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_dim": 0}, "embedding_dim must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"unknown": -0.1}, "unknown must be in"),
        ({"top": (8, 0)}, "widths must be at least 1"),
        ({"ndcg_at": 0}, "ndcg_at must be at least 1"),
        ({"loss": "lambdarank"}, "this data has no sessions"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model(**changes)


def test_data_without_columns_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither dense nor sparse"):
        model(RowSchema(dense=(), sparse=()))
