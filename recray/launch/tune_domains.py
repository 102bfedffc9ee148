"""What a space may hold: the domains of ray.tune as plain values, which people and other libraries read."""

import json
from dataclasses import dataclass
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Float, Integer, LogUniform, Quantized, Uniform

from recray.config import ConfigError


@dataclass(frozen=True)
class Numbers:
    """Numbers from ``low`` to ``high``, both included."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def ends(self) -> tuple[float, float]:
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def nearest(self, value: float) -> float:
        """The number of the range that is nearest to ``value``."""
        found = min(max(value, self.low), self.high)
        if step := self.step or float(self.whole):
            most = int((self.high - self.low) / step + 1e-9)
            found = self.low + step * min(round((found - self.low) / step), most)
        return int(found) if self.whole else found

    def __str__(self) -> str:
        kind = [*(["whole"] if self.whole else []), *(["log"] if self.log else [])]
        step = [f"steps of {self.step:g}"] if self.step and self.step != 1 else []
        return ", ".join([f"{self.low:g} to {self.high:g}", *kind, *step])


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def labels(self) -> list[str | int | float | None]:
        """The values as they stand on an axis; those with parts as text."""
        return [label(value) for value in self.values]

    def nearest(self, value: object) -> object:
        """``value``, or the first where it is none of them."""
        return value if value in self.values else self.values[0]

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.labels()))}"


Range = Numbers | Choice


def label(value: object) -> str | int | float | None:
    """A value that can be told from others and written: itself, or its JSON."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def is_domain(value: object) -> bool:
    """Whether it is to be searched; anything else holds for all trials."""
    return isinstance(value, Domain)


def range_of(path: str, domain: object) -> Range:
    """
    Raises:
        ConfigError: a domain that is neither a range of numbers nor a choice.
    """
    if isinstance(domain, Categorical):
        return Choice(tuple(domain.categories))
    sampler = domain.get_sampler() if isinstance(domain, Float | Integer) else None
    step = sampler.q if isinstance(sampler, Quantized) else None
    sampler = sampler.get_sampler() if isinstance(sampler, Quantized) else sampler
    if isinstance(domain, Float) and isinstance(sampler, Uniform | LogUniform):
        return Numbers(domain.lower, domain.upper, isinstance(sampler, LogUniform), step)
    if isinstance(domain, Integer) and isinstance(sampler, Uniform | LogUniform):
        last = domain.upper if step and step > 1 else domain.upper - 1  # only quantised ones include it
        return Numbers(domain.lower, last, isinstance(sampler, LogUniform), step, whole=True)
    raise ConfigError(
        f"the space has {domain!r} at {path}: give tune.uniform, loguniform, randint, lograndint, their "
        "quantised forms, or choice"
    )
