"""How a refit begins: again from the start, or on from the weights that validation chose."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from recray.config import Config, ConfigError, override
from recray.train.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class Continued:
    """A refit that goes on from the chosen weights instead of starting again."""

    epochs: int = 0
    """Passes from the chosen weights on; 0: start again, for as long as validation chose."""
    rate: float = 1.0
    """The constant learning rate meanwhile: a share of the peak that was trained with, of tables likewise."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ConfigError(f"continued.epochs must not be negative, got {self.epochs}")
        if not 0 < self.rate <= 1:
            raise ConfigError(f"continued.rate must be a share above 0 and at most 1, got {self.rate}")

    def require(self, refit: bool) -> None:
        """Raises ConfigError where it is asked for in a run that is not refitted."""
        if self.epochs and not refit:
            raise ConfigError(f"continued.epochs {self.epochs} without a refit: set refit, or epochs to 0")


class GoesOn(Config, Protocol):
    """A run whose refit may go on from the chosen weights."""

    @property
    def optim(self) -> OptimConfig: ...

    @property
    def continued(self) -> Continued: ...


C = TypeVar("C", bound=GoesOn)


def going_on(run: C, table_rates: Mapping[str, float] | None = None) -> C | None:
    """The run that a refit goes on with; None where it starts again.

    Args:
        table_rates: the peaks of what follows the schedule with a rate of its own, by dotted path.
    """
    if not run.continued.epochs:
        return None
    peaks = {"optim.lr": run.optim.lr, **(table_rates or {})}
    return override(
        run,
        {
            "loop.epochs": run.continued.epochs,
            "loop.stop_after": 0,
            "optim.schedule": "constant",
            "optim.warmup_steps": 0,
            **{path: peak * run.continued.rate for path, peak in peaks.items()},
        },
    )
