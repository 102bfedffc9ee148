"""GRU4Rec: its states against a slow loop written from the equations, an event at a time."""

from typing import Any

import pytest
import torch
from torch import Tensor

from recray.batch import Jagged
from recray.config import ConfigError
from recray.models.gru4rec import GRU4Rec, GRU4RecConfig
from recray.models.next_item import Events
from recray.schema import FeatureSchema

SCHEMA = FeatureSchema(num_users=3, num_items=9)
ROWS = [[5], [3, 8, 8, 1], [2, 0, 7]]  # in no order of length


def slow_states(gru: torch.nn.GRU, x_TD: Tensor) -> Tensor:
    """One row of one layer, from a state of zeros."""
    into, back, b_into, b_back = gru.parameters()
    h = torch.zeros(gru.hidden_size)
    states = []
    for x in x_TD:
        (r_x, z_x, n_x), (r_h, z_h, n_h) = (into @ x + b_into).chunk(3), (back @ h + b_back).chunk(3)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        h = (1 - z) * torch.tanh(n_x + r * n_h) + z * h
        states.append(h)
    return torch.stack(states)


@torch.no_grad()
def test_states_are_those_of_the_equations() -> None:
    torch.manual_seed(0)
    model = GRU4Rec(GRU4RecConfig(dim=4, hidden_dim=5, num_layers=2, dropout=0.0), SCHEMA)
    torch.nn.init.normal_(model.items.all_rows())
    events = Jagged.from_rows(ROWS)
    found_ND = model.encode(Events(events, torch.zeros(len(events.values_N))))
    expected = []
    for row in ROWS:
        x_TD = model.items.all_rows()[row] * 2
        for layer in model.layers:
            assert isinstance(layer, torch.nn.GRU)
            x_TD = slow_states(layer, x_TD)
        expected += [model.norm(x_D) for x_D in x_TD @ model.out.weight.T]
    torch.testing.assert_close(found_ND, torch.stack(expected))


@torch.no_grad()
def test_its_states_keep_their_precision_where_less_is_asked_for() -> None:
    torch.manual_seed(0)
    model = GRU4Rec(GRU4RecConfig(dim=4, hidden_dim=5, num_layers=2, dropout=0.0), SCHEMA)
    rows = Jagged.from_rows(ROWS)
    events = Events(rows, torch.zeros(len(rows.values_N)))
    with torch.autocast("cpu", torch.bfloat16):
        found_ND = model.encode(events)
    assert torch.equal(found_ND, model.encode(events))


def test_what_is_dropped_goes_by_the_seed_alone() -> None:
    """A layer of ``nn.GRU`` that drops out by itself asks cuDNN, whose own state no seed of a step resets."""
    model = GRU4Rec(GRU4RecConfig(dim=4, hidden_dim=5, num_layers=3, dropout=0.5), SCHEMA)
    assert [layer.dropout for layer in model.modules() if isinstance(layer, torch.nn.GRU)] == [0.0] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim and num_layers must be at least 1, got 0 and 1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_configs_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GRU4RecConfig(**changes)
