"""SS4Rec's two state space models against slow loops from the papers, and its nerves over ten years."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recray.batch import Jagged
from recray.data.batches.sequences import SequenceBatches
from recray.models.next_item import Events
from recray.models.ss4rec import S5, Mamba, SS4Rec, SS4RecConfig
from recray.schema import FeatureSchema
from recray.train.context import Context
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from tests.data.made import dataset_of

TEN_YEARS = 10 * 365 * 86400


def slow_s5(layer: S5, u_TD: Tensor, intervals_T: Tensor) -> Tensor:
    """Equations 2 and 6 of the S5 paper for one row, in complex numbers, step by step."""
    into, out = layer.into.detach().double(), layer.out.detach().double()
    into_PD = torch.complex(into[:, 0::2].T.contiguous(), into[:, 1::2].T.contiguous())
    out_DP = torch.complex(out[0::2].T.contiguous(), -out[1::2].T.contiguous())
    poles_P = torch.complex(-layer.log_decay_P.detach().double().exp(), layer.frequency_P.detach().double())
    state_P, rows = torch.zeros_like(poles_P), []
    for u_D, interval in zip(u_TD.double(), intervals_T.double(), strict=True):
        step_P = interval * layer.log_rate_P.detach().double().exp()
        growth_P = (poles_P * step_P).exp()
        state_P = growth_P * state_P + (growth_P - 1) / poles_P * (into_PD @ u_D.to(into_PD))
        # out holds both halves of the conjugate pairs, so C is half of it: y = 2 Re(C x) = Re(out x)
        rows.append((out_DP @ state_P).real + layer.skip_D.detach().double() * u_D)
    return torch.stack(rows)


def slow_mamba(layer: Mamba, x_TD: Tensor) -> Tensor:
    """Algorithm 2 of the Mamba paper and the block around it, for one row, step by step."""
    u_TE, gate_TE = layer.into(x_TD).chunk(2, dim=-1)
    kernel_EK = layer.kernel_EK
    taps = kernel_EK.shape[1]
    padded = F.pad(u_TE, (0, 0, taps - 1, 0))
    u_TE = F.silu(
        torch.stack([(padded[t : t + taps].T * kernel_EK).sum(1) for t in range(len(u_TE))]) + layer.kernel_E
    )
    rank, states, _ = layer.sizes
    low, b_TS, c_TS = layer.select(u_TE).split([rank, states, states], dim=-1)
    delta_TE = F.softplus(layer.delta(low))
    state_ES, rows = torch.zeros(u_TE.shape[1], states), []
    for t in range(len(u_TE)):
        decay_ES = (-delta_TE[t][:, None] * layer.log_decay_ES.exp()).exp()
        state_ES = decay_ES * state_ES + (delta_TE[t] * u_TE[t])[:, None] * b_TS[t]
        rows.append(state_ES @ c_TS[t] + layer.skip_E * u_TE[t])
    out: Tensor = layer.out(torch.stack(rows) * F.silu(gate_TE))
    return out


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_s5_is_the_papers_recurrence_with_steps_of_any_length(backend: str) -> None:
    torch.manual_seed(0)
    layer = S5(6, 5, backend)  # type: ignore[arg-type]
    lengths = [4, 1, 7]
    u_ND, intervals_N = torch.randn(12, 6), torch.tensor([0.0, 1.0, 17.5, 400.0] * 3)
    found = layer(u_ND, intervals_N, torch.tensor([0, *lengths]).cumsum(0))
    slow = [
        slow_s5(layer, u, i) for u, i in zip(u_ND.split(lengths), intervals_N.split(lengths), strict=True)
    ]
    torch.testing.assert_close(found.double(), torch.cat(slow), rtol=1e-4, atol=1e-5)


def test_s5_starts_at_the_poles_of_hippo() -> None:
    """S5, section 4.1: the normal part of HiPPO-LegS has real parts of -1/2 and frequencies of all scales."""
    layer = S5(4, 16, "torch")
    torch.testing.assert_close(layer.log_decay_P.exp(), torch.full((16,), 0.5))
    frequencies_P = layer.frequency_P.detach().sort().values
    assert frequencies_P[0] > 0
    assert frequencies_P[-1] > 10 * frequencies_P[0]
    rates_P = layer.log_rate_P.exp()
    assert rates_P.min() >= 1e-3
    assert rates_P.max() <= 1e-1


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_mamba_is_the_papers_recurrence(backend: str) -> None:
    torch.manual_seed(0)
    layer = Mamba(dim=8, channels=12, states=4, kernel=3, backend=backend)  # type: ignore[arg-type]
    lengths = [5, 1, 2]
    x_ND = torch.randn(8, 8)
    found = layer(x_ND, torch.tensor([0, *lengths]).cumsum(0))
    slow = torch.cat([slow_mamba(layer, x) for x in x_ND.split(lengths)])
    torch.testing.assert_close(found, slow, rtol=1e-4, atol=1e-5)


def test_mamba_starts_with_steps_between_a_thousandth_and_a_tenth() -> None:
    torch.manual_seed(0)
    delta_E = F.softplus(Mamba(8, 64, 4, 4, "torch").delta.bias)
    assert delta_E.min() > 9e-4
    assert delta_E.max() < 0.11


def test_a_wait_adds_what_lies_between_two_vectors() -> None:
    """Against a slow loop; an event of the same second has the first vector, ten years and more the last."""
    torch.manual_seed(0)
    schema = FeatureSchema(num_users=2, num_items=9)
    told = SS4Rec(SS4RecConfig(dim=8, channels=8, num_blocks=1, wait_vectors=5), schema).eval()
    waits = [0.0, 60.0, 90_000.0, TEN_YEARS, 2.0 * TEN_YEARS]
    items = Jagged(torch.arange(5), torch.tensor([0, 5]))
    found: list[Tensor] = []
    told.blocks[0].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].detach()))
    told.encode(Events(items, torch.tensor(waits)))
    assert told.wait_KD is not None
    for event, wait in enumerate(waits):
        place = min(math.log(1 + wait) / math.log(1 + TEN_YEARS), 1.0) * 4
        low = min(int(place), 3)
        between = (low + 1 - place) * told.wait_KD[low] + (place - low) * told.wait_KD[low + 1]
        torch.testing.assert_close(found[0][event], (told.items.all_rows()[event] + between) * 8**0.5)


@pytest.mark.parametrize("changes", [{"parts": "mamba"}, {"interval": "none"}, {"wait_vectors": 0}])
def test_only_what_reads_waits_has_vectors_of_them(changes: dict[str, Any]) -> None:
    config = SS4RecConfig(**{"dim": 8, "channels": 8, "wait_vectors": 5, **changes})
    assert SS4Rec(config, FeatureSchema(num_users=2, num_items=9)).wait_KD is None


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("interval", ["log", "linear"])
def test_training_on_waits_from_nothing_to_ten_years_stays_finite(seed: int, interval: str) -> None:
    generator = np.random.default_rng(seed)
    rows, num_items = [], 20
    for user in range(24):
        waits = np.exp(generator.uniform(0, math.log(TEN_YEARS), 12)).astype(np.int64)
        waits[generator.random(12) < 0.3] = 0
        waits[-1] = TEN_YEARS
        times = np.cumsum(waits) + 10**9
        rows += [(user, int(generator.integers(num_items)), int(t)) for t in times]
    dataset = dataset_of(rows)
    batches = SequenceBatches(dataset, np.ones(len(rows), bool), 8, 50, seed=seed)
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"dim": 16, "channels": 16, "mamba_states": 4, "s5_states": 8, "num_blocks": 2}
    config = SS4RecConfig(**sizes, interval=interval, wait_vectors=4)  # type: ignore[arg-type]
    model = SS4Rec(config, FeatureSchema(num_users=dataset.num_users, num_items=dataset.num_items))
    losses: list[float] = []

    def validate(model: torch.nn.Module) -> dict[str, tuple[float, float]]:
        with torch.no_grad():
            batch = batches.batch(0, 0)
            losses.append(float(model.loss(batch)["loss"]))  # type: ignore[operator]
        return {"loss": (losses[-1], 1.0)}

    fit(
        model,
        batches,
        validate,
        config=LoopConfig(epochs=12, metric="loss", goal="min"),
        optim=OptimConfig(lr=0.02),
        context=Context(),
        seed=seed,
    )
    assert all(p.isfinite().all() for p in model.parameters())
    assert losses[-1] < 0.8 * losses[0]
