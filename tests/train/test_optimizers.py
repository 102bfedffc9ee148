"""PyTorch's optimizers without the import of its compiler: the same steps, bit for bit."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from recray.train.optim import OptimConfig, build_optimizer
from recray.train.optimizers import OPTIMIZERS

# What a process that trains on one machine has no need of, and what it costs to import: two seconds of it
# for the compiler, the rest a second together.
NEEDLESS = (
    "torch._dynamo",
    "sympy",
    "numba",
    "xgboost",
    "sklearn",
    "matplotlib",
    "torch.distributed.checkpoint",
)
PROGRAM = f"""
import sys
import torch
import recray.launch.ray_train
from recray.recipes import RECIPES
from recray.train.optim import OptimConfig, build_optimizer

for method in ("adamw", "adagrad", "sgd"):
    model = torch.nn.Linear(3, 1)
    optimizer = build_optimizer(model, OptimConfig(method=method))
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
assert len(RECIPES) > 10
print(*(name for name in {NEEDLESS} if name in sys.modules))
"""


def test_a_process_that_trains_imports_no_compiler_and_nothing_else_that_is_slow() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("method", ["adamw", "adagrad", "sgd"])
def test_steps_are_those_of_pytorch(method: Any) -> None:
    kinds = {"adamw": torch.optim.AdamW, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}
    mine, theirs = nn.Linear(5, 2), nn.Linear(5, 2)
    theirs.load_state_dict(mine.state_dict())
    optimizer = build_optimizer(mine, OptimConfig(method=method, lr=0.1, weight_decay=0.01))
    other = kinds[method](theirs.parameters(), lr=0.1, weight_decay=0.01, fused=True)
    rows = torch.randn(7, 5)
    for _ in range(5):
        for model, steps in ((mine, optimizer), (theirs, other)):
            steps.zero_grad()
            model(rows).square().sum().backward()
            steps.step()
    assert torch.equal(mine.weight, theirs.weight)
    assert optimizer.state_dict()["state"].keys() == other.state_dict()["state"].keys()


def test_they_are_called_and_kept_as_pytorchs() -> None:
    assert [kind.__name__ for kind in OPTIMIZERS.values()] == ["AdamW", "Adagrad", "SGD"]
    assert all(issubclass(kind, torch.optim.Optimizer) for kind in OPTIMIZERS.values())
