"""HSTU: its layer against a slow loop written from the paper's equations, an event and a head at a time."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from recray.batch import Jagged
from recray.config import ConfigError
from recray.models.hstu import HSTU, HSTUConfig, Layer
from recray.models.next_item import Events
from recray.schema import FeatureSchema

SCHEMA = FeatureSchema(num_users=3, num_items=9)
ROWS = [[3, 8, 8, 1], [5], [2, 0, 7]]
WAITS = [[0.0, 1.0, 90.0, 86_400.0], [3e8], [59.0, 3600.0, 0.0]]
EVENTS = Events(Jagged.from_rows(ROWS), torch.tensor([wait for row in WAITS for wait in row]))


def new(**config: Any) -> HSTU:
    torch.manual_seed(0)
    shape = {"dim": 6, "num_heads": 2, "attention_dim": 4, "value_dim": 3, "max_items": 5, "dropout": 0.0}
    model = HSTU(HSTUConfig(**{**shape, **config}), SCHEMA)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)  # far from the small start: what is forgotten shows
    return model


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def normed(x_D: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    spread = math.sqrt(float((x_D - x_D.mean()).square().mean()) + norm.eps)
    return (x_D - x_D.mean()) / spread * norm.weight + norm.bias


def bucket(seconds: float) -> int:
    return min(128, math.floor(math.log(max(1.0, seconds)) / 0.301))


def slow_layer(layer: Layer, x_TD: Tensor, waits: list[float]) -> Tensor:
    """One row. Moments: ``at[j]`` of event j, ``at[i + 1]`` of what follows i."""
    at = [sum(waits[:n]) for n in range(len(waits) + 1)]
    split = [silu(layer.into.weight @ normed(x_D, layer.norm)) for x_D in x_TD]
    rows = []
    for i in range(len(x_TD)):
        heads = []
        for h in range(2):
            query = split[i][12 + 4 * h :][:4]
            total = torch.zeros(3)
            for j in range(i + 1):
                score = query @ split[j][20 + 4 * h :][:4] + layer.position_T[i - j]
                if layer.time_S is not None:
                    score = score + layer.time_S[bucket(at[i + 1] - at[j])]
                total = total + silu(score) / 5 * split[j][6 + 3 * h :][:3]
            heads.append(total)
        gated = normed(torch.cat(heads), layer.norm_attended) * split[i][:6]
        rows.append(x_TD[i] + layer.out.weight @ gated + layer.out.bias)
    return torch.stack(rows)


@pytest.mark.parametrize("time_bias", [True, False])
@torch.no_grad()
def test_its_layers_are_the_paper_s_equations(time_bias: bool) -> None:
    model = new(time_bias=time_bias)
    found_ND = model.encode(EVENTS)
    expected = []
    for row, waits in zip(ROWS, WAITS, strict=True):
        x_TD = model.items.all_rows()[row] * math.sqrt(6)
        for layer in model.layers:
            assert isinstance(layer, Layer)
            x_TD = slow_layer(layer, x_TD, waits)
        expected += [normed(x_D, model.norm) for x_D in x_TD]
    torch.testing.assert_close(found_ND, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_every_parameter_learns() -> None:
    model = new()
    hidden_ND = model.encode(EVENTS)
    (hidden_ND * torch.randn_like(hidden_ND)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert float(parameter.grad.abs().sum()) > 0.01, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"value_dim": 0}, "value_dim must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_configs_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HSTUConfig(**changes)
