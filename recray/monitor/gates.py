"""Figures that were once reached, kept as data: whatever loses one of them is stopped.

A gate of quality is a model on a data set with fixed seeds: on machines of one class it repeats, so that a
tolerance far below what seeds differ by holds. Elsewhere rounding leads other ways, and what chance explains
of two means over seeds is let pass. A gate of speed is a ratio to a peer, taken in the same run.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

from scipy import stats

from recray.config import ConfigError, from_dict, to_dict

SURE = 0.999  # of what is no chance on another class of machine


@dataclass(frozen=True, kw_only=True)
class Gate:
    name: str
    kind: Literal["quality", "speed"]
    asks: tuple[str, ...]
    """quality: a recipe and a data set. speed: a benchmark, then its arguments."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of a quality's run, by dotted path; the others are those of its preset."""
    metric: str
    """Of the test part; of a benchmark the key in its last line, parts joined by dots."""
    value: float = math.nan
    """The mean over runs that was reached."""
    tolerance: float = 0.01
    """Share of the value that may be lost."""
    runs: int = 1
    """Seeds from 0 on, or repetitions."""
    spread: float = 0.0
    """Standard deviation between runs."""
    hardware: str = ""
    """Class of machine on which the value was reached."""
    minutes: float = 1.0
    """What it takes, about."""

    def __post_init__(self) -> None:
        if not self.asks:
            raise ConfigError(f"gate {self.name!r} asks nothing: a recipe and a data set, or a benchmark")
        if self.runs < 1:
            raise ConfigError(f"gate {self.name!r}: runs must be at least 1, got {self.runs}")
        if not 0 <= self.tolerance < 1:
            raise ConfigError(f"gate {self.name!r}: tolerance is a share from 0 to 1, got {self.tolerance}")

    def renewed(self, measured: Sequence[float], hardware: str, minutes: float) -> "Gate":
        """What was reached now is what counts from now on."""
        spread = stdev(measured) if len(measured) > 1 else 0.0
        return replace(
            self,
            value=round(fmean(measured), 6),
            spread=round(spread, 6),
            hardware=hardware,
            minutes=round(minutes, 2),
        )


class Verdict(NamedTuple):
    """``passed`` None: it says nothing, as beside other work."""

    gate: str
    passed: bool | None
    text: str


def verdict_of(gate: Gate, measured: Sequence[float], hardware: str) -> Verdict:
    """
    Args:
        measured: of each run.
    """
    if not gate.value > 0:
        raise ConfigError(f"gate {gate.name!r} holds nothing yet: reach it once, with --renew")
    found = fmean(measured)
    allowed, why = gate.tolerance * abs(gate.value), f"tolerance {gate.tolerance:.1%}"
    if gate.hardware != hardware:
        chance = _by_chance(gate, measured)
        if chance > allowed:
            allowed, why = chance, f"reached on {gate.hardware or 'no machine'}, what chance explains"
    change = found / gate.value - 1
    text = f"{gate.metric} {found:.4f}, {gate.value:.4f} was reached ({change:+.1%}; {why})"
    return Verdict(gate.name, found >= gate.value - allowed, text)


def _by_chance(gate: Gate, measured: Sequence[float]) -> float:
    """How far two means over seeds are apart at most: both vary, and how much only the seeds say."""
    if gate.runs < 2:
        return 0.0
    spread = math.hypot(gate.spread, stdev(measured)) / math.sqrt(2)
    return float(stats.t.ppf(SURE, 2 * gate.runs - 2)) * spread * math.sqrt(2 / gate.runs)


def read_gates(path: Path) -> list[Gate]:
    """
    Raises:
        ConfigError: no such file, or a gate in it is none.
    """
    try:
        said: list[dict[str, Any]] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} holds no gates: {error}") from error
    gates = [from_dict(Gate, one) for one in said]
    names = [gate.name for gate in gates]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"{path}: two gates are called {', '.join(sorted(doubled))}")
    return gates


def write_gates(path: Path, gates: Sequence[Gate]) -> None:
    path.write_text(json.dumps([to_dict(gate) for gate in gates], indent=1) + "\n")
