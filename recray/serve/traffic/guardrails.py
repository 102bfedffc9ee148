"""What a candidate must not do worse than the baseline, by how much, and how sure one wants to be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from recray.config import ConfigError, override

FAILURES = ("errors", "empty", "fallbacks")
QUANTILES = {"p75": 0.75, "p95": 0.95}
"""Whatever slows all answers is seen soonest at p75, by two thirds of the users that the median needs."""
CHECKS = (*FAILURES, *QUANTILES, "clicks")  # of each candidate; the sample ratio is one for all


@dataclass(frozen=True, kw_only=True)
class Guardrails:
    """Limits of an experiment. ``alpha`` is split evenly (Bonferroni) over the sample ratio and all checks of
    all candidates."""

    alpha: float = 0.05
    """Chance that an experiment of equal arms is ever stopped, by whichever check."""
    promote_alpha: float = 0.05
    """Chance that a candidate is ever promoted whose clicks are worse by the margin, or that is slower, at
    p75, than ``slowdown`` allows."""
    clicks_margin: float | None = 0.1
    """Share of the baseline's rate of clicks that a promoted candidate may be worse by; None: that clicks are
    as good need not be shown (there may be none)."""
    slowdown: float = 1.1
    """Times as slow as the baseline that a candidate may be, at p75 and p95."""
    errors: float = 0.001
    """Share of its requests, beyond the baseline's, by which more errors than chance matter."""
    empty: float = 0.005
    """The same, of empty answers."""
    fallbacks: float = 0.005
    """The same, of answers by a fallback."""
    least_users: int = 1_000
    """Users of each arm whose window has closed before a promotion."""
    least_s: float = 600.0
    """Seconds of the experiment before a promotion."""
    window_s: float = 60.0
    """Seconds from a user's first answer on in which clicks and times count: a user's outcomes are the shares
    of the answers in it that were clicked, or slow. Longer, evidence comes later; shorter, less of it."""
    most_users: int = 200_000
    """Users that are remembered; who comes later counts for nothing, in either arm. About 100 bytes each."""
    outcomes: tuple[str, ...] = ("click", "purchase")
    """Kinds of outcomes that are clicks here."""

    def __post_init__(self) -> None:
        for name in ("alpha", "promote_alpha", "errors", "empty", "fallbacks", "clicks_margin"):
            value = getattr(self, name)
            least = 0.0 if name in FAILURES else math.ulp(0.0)
            if value is not None and not least <= value < 1:
                raise ConfigError(
                    f"{name} must be a share below 1, and above 0 unless it is one of "
                    f"{', '.join(FAILURES)}; got {value}"
                )
        if not self.slowdown >= 1:
            raise ConfigError(f"slowdown must be at least 1 (as fast as the baseline), got {self.slowdown}")
        if not self.window_s > 0 or not self.least_s >= 0:
            raise ConfigError(
                f"window_s must be above 0 and least_s not below, got {self.window_s}, {self.least_s}"
            )
        if not 1 <= self.least_users <= self.most_users:
            raise ConfigError(
                f"least_users must be between 1 and most_users ({self.most_users}), got {self.least_users}"
            )

    def level(self, candidates: int) -> float:
        """Logarithm of the e-value at which one check has spoken."""
        return math.log((len(CHECKS) * candidates + 1) / self.alpha)


WHOLE = ("least_users", "most_users")


def guardrails_of(limits: Mapping[str, float | None]) -> Guardrails:
    """The default limits, but for these; numbers that are whole come as either kind, as journals keep them.

    Raises:
        ConfigError: one is none, or cannot have that value.
    """
    numbers = {
        name: int(value) if name in WHOLE and value is not None and float(value).is_integer() else value
        for name, value in limits.items()
    }
    return override(Guardrails(), numbers)
