"""Whether a model that learns from what it showed earns more than one that does not.

python -m benchmarks.loop [--seeds 12] [--rounds 5] [--days 3]

A retriever (item KNN) and a ranker (trees) are trained on the base of a simulated world (``loop_world``) and
served, drawing lists by Plackett-Luce. Each round is some days of visits: served, clicked, told of (histories
and seen items follow at once), logged; then ``pipelines.retrain`` makes data of the log, trains, asks its
gates and promotes. A frozen copy of the first version meets the same people in a world of its own, and is
told what they did with its lists. ``reward``: expected clicks of a list, known to the world without drawing
any. ``gain``: of the loop over the frozen one from the second round on, the mean over users, then over seeds;
its interval draws seeds, and of each its users; told apart for seeds that chose settings (docs/LOG.md) and
for others. ``bad_round_stopped``: the gate of labels stopped a mislabelled day, after the last round and in
place of the first one (there on the wrong items, and on any), in every seed. Writes the plot of docs/loop.md.
The last line is one JSON object.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.loop_world import (
    EXPLORE,
    LIES,
    LOCAL,
    K,
    Lie,
    Policy,
    Told,
    first_version,
    turned_round,
    world_of,
    write_base,
)
from recray.arrays import Float64s
from recray.eval.bootstrap import Interval
from recray.pipelines.off_policy import JudgeConfig
from recray.pipelines.retrain import LABELS, RetrainConfig, Round, retrain
from recray.serve.stages.listed import StagesConfig
from recray.store import Store

RESULT = Path(__file__).parent / "results" / "loop.json"
PLOT = Path(__file__).parents[1] / "docs" / "loop.png"
FOLLOWS_WITHIN_S = 10.0
RESAMPLES = 4_000
CHOSE = 3  # the first seeds, by which settings were chosen


class Run(NamedTuple):
    """Of one seed, by round."""

    loop: list[Told]
    frozen: list[Told]
    best: list[float]  # of the best lists there are
    rounds: list[Round]
    bad: Round  # after the last one


def played(seed: int, rounds: int, days: int) -> Run:
    with home() as folder:
        return _played(folder, seed, rounds, days)


def begun_badly(seed: int, days: int) -> dict[str, Round]:
    """First rounds whose events are mislabelled, by how: there is no log before them to compare them with."""
    found = dict[str, Round]()
    for name, lie in LIES.items():
        with home() as folder:
            found[name] = _begun_badly(folder, seed, days, lie)
        print(f"seed {seed}, first round {name}: {_said(found[name])}", flush=True)
    return found


@contextmanager
def home() -> Iterator[Path]:
    """An empty one, for what is done within."""
    with tempfile.TemporaryDirectory(prefix="recray-loop-") as folder:
        before = os.environ.get("RECRAY_HOME")
        os.environ["RECRAY_HOME"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("RECRAY_HOME") if before is None else os.environ.update(RECRAY_HOME=before)


def _begun_badly(home: Path, seed: int, days: int, lie: Lie) -> Round:
    store = Store()
    application = first_version(write_base(home, world_of(seed)), store)
    loop = Policy(store, application, seed, log=True)
    for day in range(days):
        loop.serve(day, lie)
    bad = _retrained(store, application, loop, days)
    loop.stop()
    return bad


def _played(home: Path, seed: int, rounds: int, days: int) -> Run:
    store = Store()
    application = first_version(write_base(home, world_of(seed)), store)
    loop = Policy(store, application, seed, log=True)
    frozen = Policy(store, application, seed, log=False)
    frozen.freeze()
    run = Run([], [], [], [], Round(application=application, at=0.0))
    for number in range(rounds):
        each = range(number * days, (number + 1) * days)
        run.best.append(float(np.mean([loop.best(day) for day in each])))
        run.loop.append(_joined([loop.serve(day) for day in each]))
        run.frozen.append(_joined([frozen.serve(day) for day in each]))
        run.rounds.append(_retrained(store, application, loop, (number + 1) * days))
        _say(seed, number, run)
    loop.serve(rounds * days, turned_round)
    bad = _retrained(store, application, loop, rounds * days + 1)
    print(f"seed {seed}, mislabelled: {_said(bad)}", flush=True)
    loop.stop()
    frozen.stop()
    return run._replace(bad=bad)


def _retrained(store: Store, application: str, loop: Policy, day: int) -> Round:
    """After which what is served is what production points at."""
    until = float(loop.world.begin(day))
    config = RetrainConfig(then="promote", judge=JudgeConfig(stages=StagesConfig(rules=EXPLORE)))
    done = retrain(application, config, LOCAL, store, until=until).round
    wanted, deadline = store.names(application)["production"], time.monotonic() + FOLLOWS_WITHIN_S
    while loop.version != wanted:
        assert time.monotonic() < deadline, "what was promoted is not served"
        time.sleep(0.05)
    return done


def _joined(days: list[Told]) -> Told:
    return Told(*(np.concatenate(columns) for columns in zip(*days, strict=True)))


def _say(seed: int, number: int, run: Run) -> None:
    loop, frozen = (told[-1].expected_V.mean() for told in (run.loop, run.frozen))
    rewards = f"loop {loop:.4f}, frozen {frozen:.4f}, best {run.best[-1]:.4f}"
    print(f"seed {seed}, round {number + 1}: {rewards}; {_said(run.rounds[-1])}", flush=True)


def gain(runs: list[Run], first: int) -> Interval:
    """What the loop earns beyond the frozen, rounds from one on: mean over users, then over seeds."""
    gains, rng = [_gain_of(run, first) for run in runs], np.random.default_rng(0)

    def drawn() -> float:
        chosen = [gains[seed] for seed in rng.integers(len(gains), size=len(gains))]
        return float(np.mean([rng.choice(gain_U, len(gain_U)).mean() for gain_U in chosen]))

    low, high = np.quantile([drawn() for _ in range(RESAMPLES)], [0.025, 0.975])
    return Interval(float(np.mean([each.mean() for each in gains])), float(low), float(high))


def _gain_of(run: Run, first: int) -> Float64s:
    """gain_U of each user who came."""
    loop_U, frozen_U = (_by_user(told[first:]) for told in (run.loop, run.frozen))
    return (loop_U - frozen_U)[~np.isnan(loop_U)]


def _by_user(rounds: list[Told]) -> Float64s:
    users_V, expected_V = _joined(rounds)
    visits_U = np.bincount(users_V)
    with np.errstate(invalid="ignore"):
        means_U: Float64s = np.bincount(users_V, weights=expected_V) / visits_U
    return means_U


def _stopped_by_labels(one: Round) -> bool:
    return one.failed is not None and one.failed.name == LABELS


def _said_of(first: list[dict[str, Round]]) -> dict[str, list[str]]:
    return {name: [_said(each[name]) for each in first] for name in LIES}


def plot(runs: list[Run], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.8), dpi=110, layout="constrained")
    rounds = np.arange(1, len(runs[0].loop) + 1)
    for name, colour in (("loop", "#1b6ca8"), ("frozen", "#b0452c")):
        means = np.array([[told.expected_V.mean() for told in getattr(run, name)] for run in runs])
        said = "retrained after each round" if name == "loop" else "frozen"
        axes.plot(rounds, means.mean(axis=0), color=colour, marker="o", label=said)
        axes.fill_between(rounds, means.min(axis=0), means.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(rounds)
    axes.set_xlabel("round")
    axes.set_ylabel(f"expected clicks of a list of {K}")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    axes.set_title(f"The closed loop in a simulated world, {len(runs)} seeds", loc="left", fontsize=11)
    figure.savefig(path)


def result_of(runs: list[Run], days: int) -> dict[str, Any]:
    parts = {"all": runs, "chose": runs[:CHOSE], "others": runs[CHOSE:]}
    return {
        "seeds": len(runs),
        "rounds": len(runs[0].rounds),
        "days": days,
        "reward": {
            name: [[float(told.expected_V.mean()) for told in getattr(run, name)] for run in runs]
            for name in ("loop", "frozen")
        },
        "best": [run.best for run in runs],
        "promoted": [sum(one.failed is None for one in run.rounds) for run in runs],
        "held": [[_said(one) for one in run.rounds if one.failed] for run in runs],
        "gain": {name: gain(some, first=1)._asdict() for name, some in parts.items() if some},
        "bad_rounds": [_said(run.bad) for run in runs],
        "honest_stopped_by_labels": sum(_stopped_by_labels(one) for run in runs for one in run.rounds),
    }


def write(found: dict[str, Any]) -> None:
    """What is not found anew stays as it was."""
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps(known | found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--only-first", action="store_true", help="mislabelled first rounds alone")
    options = parser.parse_args()
    began, runs = time.monotonic(), list[Run]()
    for seed in () if options.only_first else range(options.seeds):
        runs.append(played(seed, options.rounds, options.days))
        write(result_of(runs, options.days) | {"took_s": round(time.monotonic() - began)})
        plot(runs, PLOT)
    first = [begun_badly(seed, options.days) for seed in range(options.seeds)]
    write({"bad_first_rounds": _said_of(first)})
    bad = [*(run.bad for run in runs), *(one for each in first for one in each.values())]
    said: dict[str, Any] = {"bad_round_stopped": all(map(_stopped_by_labels, bad)), "bad_rounds": len(bad)}
    if runs:
        of_all = gain(runs, first=1)
        said = {"reward_gain_low": of_all.low, "reward_gain": of_all.mean, **said}
    print(json.dumps(said))


def _said(one: Round) -> str:
    return f"{one.failed.name}: {one.failed.text}" if one.failed else "promoted"


if __name__ == "__main__":
    main()
