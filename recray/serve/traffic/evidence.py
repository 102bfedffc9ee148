"""What an experiment has shown of one arm, and of one candidate against the baseline."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from recray.monitor.quantiles import LogHistogram
from recray.monitor.sequential import Bounds, RateRatio
from recray.serve.traffic.guardrails import CHECKS, FAILURES, QUANTILES, Guardrails

# How small a difference each check looks for first: failures multiply, clicks move by a tenth or a fifth.
CONCENTRATIONS = dict.fromkeys(FAILURES, 1.0) | {"p75": 20.0, "p95": 3.0, "clicks": 20.0}


@dataclass
class ArmCounts:
    """Of all requests of an arm, and of its users who are enrolled."""

    requests: int = 0
    users: int = 0
    closed: int = 0  # users whose window has closed
    clicked: float = 0.0  # the sum of their shares of answers that were clicked
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAILURES, 0))  # requests
    outcomes: dict[str, int] = field(default_factory=dict)  # all that came, by kind
    took_ms: LogHistogram = field(default_factory=LogHistogram)  # requests
    first_ms: LogHistogram = field(default_factory=LogHistogram)  # first requests of users

    def rate(self, check: str) -> float | None:
        """Clicks by answer, the mean over users; a quantile, in milliseconds; or failures by request. None of
        nothing."""
        if check == "clicks":
            return self.clicked / self.closed if self.closed else None
        if check in QUANTILES:
            return self.took_ms.quantile(QUANTILES[check])
        return self.failures[check] / self.requests if self.requests else None

    def to_json(self) -> dict[str, Any]:
        told = dict(vars(self))
        return told | {"took_ms": self.took_ms.to_json(), "first_ms": self.first_ms.to_json()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "ArmCounts":
        histograms = {name: LogHistogram.from_json(told[name]) for name in ("took_ms", "first_ms")}
        return cls(**{**told, **histograms})


class Check(NamedTuple):
    """One check of one candidate: ``ratio`` of its rate to the baseline's, with bounds that hold at any
    time."""

    name: str
    log_e: float
    level: float  # of log_e, from which on it has spoken
    crossed: bool
    ratio: float | None
    bounds: Bounds
    candidate: float | None  # its rate, as in ``ArmCounts.rate``
    baseline: float | None

    def to_json(self) -> dict[str, Any]:
        upper = self.bounds.upper
        told = self._asdict() | {"bounds": [self.bounds.lower, None if math.isinf(upper) else upper]}
        return {**told, "e": math.exp(min(self.log_e, 700.0)), "threshold": math.exp(self.level)}


class Evidence:
    """One candidate against the baseline: for each check, in which of the two arms users met what it
    counts."""

    def __init__(self) -> None:
        self.ratios = {name: RateRatio(CONCENTRATIONS[name]) for name in CHECKS}

    def checks(
        self, candidate: ArmCounts, baseline: ArmCounts, rails: Guardrails, level: float
    ) -> list[Check]:
        return [self._check(name, candidate, baseline, rails, level) for name in CHECKS]

    def _check(
        self, name: str, candidate: ArmCounts, baseline: ArmCounts, rails: Guardrails, level: float
    ) -> Check:
        seen = self.ratios[name]
        log_e = seen.log_e(above=name != "clicks")
        rates = [arm.rate(name) for arm in (candidate, baseline)]
        crossed = log_e >= level
        if name in FAILURES:
            crossed &= (rates[0] or 0.0) - (rates[1] or 0.0) > getattr(rails, name)
        bounds = seen.bounds(2 * math.exp(-level))
        return Check(name, log_e, level, crossed, seen.estimate(), bounds, *rates)

    def to_json(self) -> dict[str, list[list[float]]]:
        return {name: ratio.to_json() for name, ratio in self.ratios.items()}

    @classmethod
    def from_json(cls, told: Mapping[str, list[list[float]]]) -> "Evidence":
        evidence = cls()
        evidence.ratios = {name: RateRatio.from_json(told[name], CONCENTRATIONS[name]) for name in CHECKS}
        return evidence
