"""Whether what was once reached is still reached: the gates of ``gates.json``.

python -m benchmarks.gates [--fast] [--only NAME ...] [--renew]

--fast: those that together take five minutes. --renew: what is reached now counts from now on; the commit
says why, with both numbers. A gate of speed is not judged beside other work. Ends with status 1 where a gate
does not hold; the last line is one JSON object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recray.config import ConfigError, nearest, override
from recray.monitor.gates import Gate, Verdict, read_gates, verdict_of, write_gates
from recray.pipelines.train import Fitted, fit
from recray.recipes import RECIPES, run_for
from recray.train.context import LaunchConfig
from recray.train.run import AnyRecipe, Measured, Run

GATES = Path(__file__).parent / "gates.json"
FAST_MINUTES = 5.0


def hardware() -> str:
    """The class of machine: where it is the same, a fixed seed repeats."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def reached(gate: Gate) -> list[float] | None:
    """Of each run; None: beside other work."""
    if gate.kind == "quality":
        return [quality(gate, seed) for seed in range(gate.runs)]
    found = [speed(gate, run) for run in range(gate.runs)]
    return None if None in found else [one for one in found if one is not None]


class Trained(NamedTuple):
    """A gate's model, which can be measured again."""

    recipe: AnyRecipe
    run: Run
    fitted: Fitted[Any, Any]

    def measure(self) -> Measured:
        found: Measured = self.recipe.measure(self.run, self.fitted.data, self.fitted.model)
        return found


def trained(gate: Gate, seed: int) -> Trained:
    name, dataset = gate.asks
    recipe = RECIPES[name]
    run = override(run_for(recipe, dataset), {**gate.settings, "seed": seed})
    return Trained(recipe, run, fit(recipe, run, LaunchConfig(where="local")))


def quality(gate: Gate, seed: int) -> float:
    return trained(gate, seed).measure().means()[gate.metric]


def speed(gate: Gate, run: int) -> float | None:
    found = said(gate.asks, run)
    if not found.get("load", {"quiet": True})["quiet"]:
        return None
    for part in gate.metric.split("."):
        found = found[part]
    return float(found)


@cache
def said(asks: tuple[str, ...], run: int) -> Any:
    """The last line of a benchmark, which may hold the figures of several gates.

    Raises:
        ConfigError: it did not come to its end.
    """
    name, *arguments = asks
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        last = (ended.stderr.splitlines() or ["it said nothing"])[-1]
        raise ConfigError(f"benchmarks.{name} ended with status {ended.returncode}: {last}")
    return json.loads(lines[-1])


def chosen(gates: Sequence[Gate], only: Sequence[str], *, fast: bool) -> list[Gate]:
    """With ``fast`` those that take least, for five minutes."""
    names = [gate.name for gate in gates]
    for name in only:
        if name not in names:
            raise ConfigError(f"no gate {name!r}{nearest(name, names)}")
    if only:
        return [gate for gate in gates if gate.name in only]
    if not fast:
        return list(gates)
    kept, minutes = [], 0.0
    for gate in sorted(gates, key=lambda gate: gate.minutes):
        minutes += gate.minutes
        if minutes <= FAST_MINUTES:
            kept.append(gate)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--renew", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums depend on how they are split
    gates = {gate.name: gate for gate in read_gates(GATES)}
    verdicts: list[Verdict] = []
    for gate in chosen(list(gates.values()), options.only, fast=options.fast):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="recray-gate-") as home:
            os.environ["RECRAY_HOME"] = home
            try:
                found, broken = reached(gate), ""
            except ConfigError as error:
                found, broken = None, str(error)
        if broken:
            verdict = Verdict(gate.name, False, broken)
        elif found is None:
            verdict = Verdict(gate.name, None, "not judged: others kept the machine busy meanwhile")
        elif options.renew:
            gates[gate.name] = gate.renewed(found, hardware(), (time.monotonic() - began) / 60)
            text = f"{gate.metric} {gate.value:.4f} -> {gates[gate.name].value:.4f}"
            verdict = Verdict(gate.name, True, text)
            write_gates(GATES, list(gates.values()))
        else:
            verdict = verdict_of(gate, found, hardware())
        verdicts.append(verdict)
        sign = {True: "holds", False: "FAILS", None: "?"}[verdict.passed]
        print(f"{sign:6} {verdict.gate}: {verdict.text}", flush=True)
    lost = [verdict.gate for verdict in verdicts if verdict.passed is False]
    print(json.dumps({"gates": len(verdicts), "failed": lost, "hardware": hardware()}))
    raise SystemExit(1 if lost else 0)


if __name__ == "__main__":
    main()
