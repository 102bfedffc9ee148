"""NeuMF's loss and scores against slow loops written from the paper."""

import math
from typing import Any

import pytest
import torch

from recray.batch import Jagged, PairBatch, QueryBatch
from recray.config import ConfigError
from recray.models import ncf
from recray.models.ncf import NCF, NCFConfig
from recray.schema import FeatureSchema

SCHEMA = FeatureSchema(num_users=5, num_items=7)
CONFIG = NCFConfig(factor_dim=3, mlp_dim=2, hidden_dims=(6, 4), dropout=0.0)


def new_model() -> NCF:
    torch.manual_seed(0)
    built = NCF(CONFIG, SCHEMA)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter)
    return built


@torch.no_grad()
def slow_logit(model: NCF, user: int, item: int) -> float:
    """Equation 12 of the paper: one pair, its vectors laid end to end."""
    product_D = model.user_factors.weight[user] * model.item_factors.weight[item]
    hidden_D = torch.cat([model.user_inputs.weight[user], model.item_inputs.weight[item]])
    first = torch.cat([model.mlp.user.weight, model.mlp.item.weight], dim=1)
    hidden_D = torch.relu(first @ hidden_D + model.mlp.user.bias)
    second = model.mlp.above[2]
    assert isinstance(second, torch.nn.Linear)
    hidden_D = torch.relu(second.weight @ hidden_D + second.bias)
    weight_D = torch.cat([model.factor_weight.weight[0], model.hidden_weight.weight[0]])
    return float(weight_D @ torch.cat([product_D, hidden_D]) + model.factor_weight.bias)


def queries(user_ids: list[int], histories: list[list[int]]) -> QueryBatch:
    history = Jagged.from_rows(histories)
    times_N = torch.zeros(len(history.values_N), dtype=torch.int64)
    return QueryBatch(torch.tensor(user_ids), history, times_N, torch.ones(len(user_ids), dtype=torch.int64))


def batch(weights: list[float] | None = None) -> PairBatch:
    weight_B = None if weights is None else torch.tensor(weights)
    negatives_BK = torch.tensor([[1, 2], [0, 0], [6, 3]])
    return PairBatch(
        torch.tensor([0, 4, 4]), torch.tensor([5, 1, 1]), torch.zeros(3), weight_B, 3, negatives_BK
    )


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.1]])
def test_loss_matches_the_slow_loop(weights: list[float] | None) -> None:
    model, pairs = new_model(), batch(weights)
    assert pairs.negative_ids_BK is not None
    expected, total = 0.0, 0.0
    for b, weight in enumerate(weights or [1.0] * 3):
        user = int(pairs.user_ids_B[b])
        row = [math.log1p(math.exp(-slow_logit(model, user, int(pairs.item_ids_B[b]))))]
        row += [math.log1p(math.exp(slow_logit(model, user, i))) for i in pairs.negative_ids_BK[b].tolist()]
        expected, total = expected + weight * sum(row) / 3, total + weight
    assert model.loss(pairs)["loss"].item() == pytest.approx(expected / total, rel=1e-5)


def test_scores_are_the_logits_of_every_pair_whatever_fits_into_a_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = new_model().eval()
    expected_BI = torch.tensor([[slow_logit(model, u, i) for i in range(7)] for u in (3, 0, 4)])
    asked = queries([3, 0, 4], [[], [], []])
    torch.testing.assert_close(model.score_items(asked), expected_BI)
    monkeypatch.setattr(ncf, "CHUNK_VALUES", 1)  # one user at a time
    torch.testing.assert_close(model.score_items(asked), expected_BI)


def test_an_unknown_user_gets_what_resembles_its_history() -> None:
    model = new_model().eval()
    scores_BI = model.score_items(queries([-1, 2, -1], [[1, 4], [0], []]))
    vectors = torch.cat([model.item_factors.weight, model.item_inputs.weight], dim=1).detach()
    for item in range(7):
        cosines = [torch.cosine_similarity(vectors[item], vectors[seen], dim=0) for seen in (1, 4)]
        assert scores_BI[0, item].item() == pytest.approx(float(sum(cosines)) / 2, abs=1e-6)
    torch.testing.assert_close(scores_BI[1:2], model.score_items(queries([2], [[]])))
    assert torch.equal(scores_BI[2], torch.zeros(7))


def test_a_batch_without_negatives_is_refused() -> None:
    with pytest.raises(ConfigError, match="NCF learns from negatives"):
        new_model().loss(batch()._replace(negative_ids_BK=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor_dim": 0}, "at least one hidden width must be 1 or more, got 0, 64"),
        ({"hidden_dims": ()}, "at least one hidden width"),
        ({"hidden_dims": (8, 0)}, "at least one hidden width"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_configs_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NCFConfig(**changes)
