"""What stops being finite is named: in the forward pass, in the backward pass, and by the loop."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from recray.batch import PairBatch
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.train import stability
from recray.train.context import Context
from recray.train.loop import LoopConfig, TrainingError, fit
from recray.train.optim import OptimConfig
from tests.planted import SCHEMA, PlantedBatches


class Scaled(nn.Module):
    """Its input times a number, with gradients of its own choice."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Root(nn.Module):
    """Finite everywhere; its gradient is not at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt()


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def test_the_first_module_whose_output_is_not_finite() -> None:
    model = chain(Scaled(2.0), Scaled(1e38), Scaled(3.0))
    found = stability.first_offender(model, lambda: model(torch.full((2,), 10.0)).sum())
    assert found == "first in the output of 1 (Scaled), its input was finite"


def test_an_input_or_a_parameter_that_was_not_finite_already() -> None:
    model = chain(Scaled(), Scaled())
    found = stability.first_offender(model, lambda: model(torch.tensor([1.0, math.inf])).sum())
    assert found == "first in the output of 0 (Scaled), its input was not finite already"
    model = chain(Scaled(), Scaled(math.nan))
    found = stability.first_offender(model, lambda: model(torch.ones(2)).sum())
    assert found.endswith("1 (Scaled), its input was finite, its parameters factor are not finite")


def test_a_loss_that_goes_wrong_outside_of_every_module() -> None:
    model = chain(Scaled())
    found = stability.first_offender(model, lambda: model(torch.zeros(1)).log().sum())
    assert found == "every module's output was finite: the loss itself is where it begins"
    found = stability.first_offender(model, lambda: model(torch.ones(1)).sum())
    assert found == "the step was finite when it was repeated"


def test_where_gradients_stop_being_finite() -> None:
    model = chain(Scaled(), Root(), Scaled())
    found = stability.first_gradient_offender(model, lambda: model(torch.zeros(2)).sum())
    way = "first on the way back from 1 (Root) to 0 (Scaled)"
    assert found == f"{way}; gradients that are not finite: 0.factor"
    model = chain(Scaled(), Scaled(1e-30), Scaled(1e30))
    found = stability.first_gradient_offender(model, lambda: model(torch.full((1,), 1e30)).sum())
    assert (
        found
        == "first in 1 (Scaled), which a finite gradient reaches; gradients that are not finite: 1.factor"
    )
    found = stability.first_gradient_offender(model, lambda: model(torch.ones(1)).sum())
    assert found == "the step's own gradients were finite when it was repeated"


def test_hooks_do_not_stay() -> None:
    model = chain(Scaled(), Root())
    stability.first_offender(model, lambda: model(torch.zeros(1)).sum())
    stability.first_gradient_offender(model, lambda: model(torch.zeros(1)).sum())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_tally_is_a_mean_and_a_maximum_and_starts_again() -> None:
    tally = stability.Tally()
    for loss, norm in ((1.0, 2.0), (3.0, 8.0)):
        tally.add(loss, norm)
    assert tally.take() == {"train_loss": (4.0, 2.0), "grad_norm": (10.0, 2.0), "grad_norm_max": (8.0, 1.0)}
    tally.add(5.0, 1.0)
    assert tally.take() == {"train_loss": (5.0, 1.0), "grad_norm": (1.0, 1.0), "grad_norm_max": (1.0, 1.0)}


class Trouble(nn.Module):
    """Hands its input on; at the one call it waits for, something that is not finite."""

    def __init__(self, call: int, backward: bool) -> None:
        super().__init__()
        self.wait, self.backward = call, backward

    def forward(self, x: Tensor) -> Tensor:
        self.wait -= 1
        if self.wait >= 0:
            return x
        if not self.backward:
            return x / 0
        return x + (x * 0).sqrt()


class Troubled(TwoTower):
    def __init__(self, call: int, backward: bool) -> None:
        super().__init__(TwoTowerConfig(embedding_dim=8), SCHEMA)
        self.trouble = Trouble(call, backward)

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        return {"loss": self.trouble(super().loss(batch)["loss"])}


def run(model: nn.Module, optim: OptimConfig, reports: list[dict[str, float]]) -> None:
    def report(metrics: dict[str, float], _: Path | None) -> None:
        reports.append(metrics)

    config = LoopConfig(epochs=2, patience=0)
    fit(
        model, PlantedBatches(), lambda _: {"ndcg@10": (1.0, 2.0)}, config=config, optim=optim,
        context=Context(report=report), seed=3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (
            False,
            r"loss is (inf|nan) at step 7: first in the output of trouble \(Trouble\), its input was finite",
        ),
        (True, r"gradient norm is nan at step 7: .*gradients that are not finite: .*ids.weight.*norms: "),
    ],
)
def test_the_loop_names_step_and_module(backward: bool, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        run(Troubled(7, backward), OptimConfig(), [])


def test_losses_and_gradient_norms_are_reported_before_clipping() -> None:
    def trained(max_grad_norm: float) -> list[dict[str, float]]:
        torch.manual_seed(0)
        reports: list[dict[str, float]] = []
        model = TwoTower(TwoTowerConfig(embedding_dim=8), SCHEMA)
        run(model, OptimConfig(method="sgd", lr=1e-9, max_grad_norm=max_grad_norm), reports)
        return reports

    for free, clipped in zip(trained(0.0), trained(1e-3), strict=True):
        assert 0 < free["grad_norm"] < free["grad_norm_max"]
        assert free["train_loss"] > 0
        for name in ("train_loss", "grad_norm", "grad_norm_max"):
            assert clipped[name] == pytest.approx(free[name], rel=1e-4)
