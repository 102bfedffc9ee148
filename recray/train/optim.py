"""Optimizers and learning-rate schedules. The rate is a pure function of the step: nothing to checkpoint."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from recray.config import ConfigError
from recray.train.optimizers import OPTIMIZERS


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How parameters follow their gradients; tables with a fused optimizer follow the schedule only."""

    method: Literal["adamw", "adagrad", "sgd"] = "adamw"
    """AdamW (https://arxiv.org/abs/1711.05101), Adagrad (JMLR 12, 2011) or plain gradient descent."""
    lr: float = 3e-3
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Decoupled with adamw, else added to the gradient."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of adamw's two moment estimates."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate falls from its peak to zero at the last step."""
    warmup_steps: int = 0
    """Steps over which the rate rises linearly from zero."""
    max_grad_norm: float = 0.0
    """Clip the global gradient norm to this; 0 leaves it alone."""

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"optim.lr must be a positive number, got {self.lr}")
        if not all(map(math.isfinite, (self.weight_decay, self.max_grad_norm))):
            raise ConfigError("optim.weight_decay and max_grad_norm must be finite numbers")
        if min(self.weight_decay, self.warmup_steps, self.max_grad_norm) < 0:
            raise ConfigError("optim.weight_decay, warmup_steps and max_grad_norm must not be negative")


def fitted_to(config: OptimConfig, total_steps: int) -> OptimConfig:
    """The same with a warm-up of at most a tenth of the run: one that fills a short run would never reach
    the rate that was asked for."""
    return replace(config, warmup_steps=min(config.warmup_steps, total_steps // 10))


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer of all parameters, fused into one kernel per step; of none, where all is in tables."""
    settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    if config.method == "adamw":
        settings["betas"] = config.betas
    return OPTIMIZERS[config.method]([{"params": list(model.parameters())}], **settings)


def learning_rate(config: OptimConfig, step: int, total_steps: int) -> float:
    """The rate of step 0, 1, ... total_steps - 1."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    return config.lr * (1 - done if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))
