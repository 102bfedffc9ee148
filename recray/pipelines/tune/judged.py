"""The winner and what its search started from, trained on the same seeds, measured on the test part, once."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from recray.config import override
from recray.eval import clicks, over_seeds
from recray.eval.bootstrap import Interval
from recray.eval.clicks import ClickEvaluation
from recray.eval.evaluate import Evaluation
from recray.eval.over_seeds import OverSeeds, Runs
from recray.eval.two_stage import MeasuredStages
from recray.folders import write_whole
from recray.pipelines.tune.kept import measured_once
from recray.pipelines.tune.search import Found
from recray.pipelines.tune.subject import Subject
from recray.redaction import hidden_within
from recray.store import Store
from recray.train.context import LaunchConfig
from recray.train.run import Measured, Run
from recray.typed_values import plain

R = TypeVar("R", bound=Run)
NAN = float("nan")
PUBLISHED = "published.json"
RECORD = "search.json"  # in a published version: the search behind it


class Side(NamedTuple):
    """One of the two, averaged over its seeds."""

    metrics: dict[str, Interval]  # over users and seeds, or over rows; no bounds where nothing is drawn
    seed_std: dict[str, float]


class Judged(NamedTuple):
    """Both on the test part; what it holds was not looked at before."""

    seeds: int
    best: Side
    preset: Side
    gain: dict[str, Interval]  # best - preset, paired


class Outcome(NamedTuple):
    judged: Judged | None
    published: list[str]  # references of the versions


def judge(
    subject: Subject[Any], found: Found, where: LaunchConfig, seeds: int, store: Store | None
) -> Outcome:
    """Trains, measures and publishes; what an earlier start of the same search did is not done again.

    By seeds that come after the search's own: by that one the winner was chosen, and it may be best there
    by luck.

    Args:
        seeds: how many; 0: neither is measured, and the winner is trained once if published.
        store: where the winner of the first seed goes, unless it is there already; None: nowhere.
    """
    name = f"{found.name}-trial-{found.best.number:04d}"
    published = _published(found)
    if store and not published:
        run, at = seeded(found.best_run), replace(where, run=f"{name}-seed-{found.run.seed + 1}")
        beside = {RECORD: json.dumps(hidden_within(record_of(found)), indent=1).encode()}
        published = subject.publish(run, at, store, beside)
        said = {"trial": found.best.number, "versions": published}
        write_whole(found.folder / PUBLISHED, json.dumps(said).encode())
    if not seeds:
        return Outcome(None, published)

    def measured(run: Run, name: str) -> list[Measured]:
        runs = [seeded(run, further) for further in range(1, seeds + 1)]
        places = [replace(where, run=f"{name}-seed-{each.seed}") for each in runs]
        folder = found.folder / "judged"
        return [measured_once(folder, subject, *pair) for pair in zip(runs, places, strict=True)]

    best = measured(found.best_run, name)
    preset = best if found.best_run == found.run else measured(found.run, f"{found.name}-preset")
    judged = compared(best, preset)
    write_whole(found.folder / "test.json", json.dumps(plain(_asdict(judged)), indent=1).encode())
    return Outcome(judged, published)


def seeded(run: R, further: int = 1) -> R:
    """A run by a seed after the one that the search chose by; the first is what is published."""
    return override(run, {"seed": run.seed + further})


def _published(found: Found) -> list[str]:
    """The versions that an earlier start of this search made of the same winner."""
    try:
        said = json.loads((found.folder / PUBLISHED).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return list(said["versions"]) if said["trial"] == found.best.number else []


def record_of(found: Found) -> dict[str, Any]:
    """The whole search, as its winner's version carries it."""
    return {
        "search": found.name,
        "space": found.space.words(),
        "ignored": dict(found.space.ignored),
        "goal": found.space.goal._asdict(),
        "best": found.best.number,
        "trials": [plain(record) for record in found.records],
    }


def compared(best: Sequence[Measured], preset: Sequence[Measured]) -> Judged:
    """Both sides with their intervals, where the kind of measurement has them."""
    stages = [[m.ranker if isinstance(m, MeasuredStages) else m for m in side] for side in (best, preset)]
    if all(isinstance(m, Evaluation) for m in stages[0]):
        lists = [cast(list[Evaluation], side) for side in stages]
        sides = [Side(_over_seeds(side), _seed_std(side)) for side in lists]
        best_runs, preset_runs = (Runs(side, draws=True) for side in lists)
        gain = {
            name: _interval(over_seeds.difference(best_runs, preset_runs, name)) for name in sides[0].metrics
        }
    elif all(isinstance(m, ClickEvaluation) for m in stages[0]):
        runs = [cast(list[ClickEvaluation], side) for side in stages]
        sides = [Side(clicks.summary(side), _seed_std(side)) for side in runs]
        gain = {name: clicks.difference(runs[0], runs[1], name) for name in sides[0].metrics}
    else:
        sides = [Side(_bare(side), _seed_std(side)) for side in stages]
        gain = {
            name: Interval(mean - sides[1].metrics[name].mean, NAN, NAN)
            for name, (mean, _, _) in sides[0].metrics.items()
        }
    return Judged(len(best), sides[0], sides[1], gain)


def _over_seeds(runs: list[Evaluation]) -> dict[str, Interval]:
    return {name: _interval(over_seeds.of_model(Runs(runs, draws=True), name)) for name in runs[0].per_query}


def _interval(found: OverSeeds) -> Interval:
    return Interval(found.mean, found.low, found.high)


def _bare(runs: Sequence[Measured]) -> dict[str, Interval]:
    means = [run.means() for run in runs]
    return {name: Interval(float(np.mean([m[name] for m in means])), NAN, NAN) for name in means[0]}


def _seed_std(runs: Sequence[Measured]) -> dict[str, float]:
    means = [run.means() for run in runs]
    many = len(runs) > 1
    return {name: float(np.std([m[name] for m in means], ddof=1)) if many else NAN for name in means[0]}


def _asdict(judged: Judged) -> dict[str, Any]:
    def told(metrics: dict[str, Interval]) -> dict[str, list[float | None]]:
        return {name: [None if np.isnan(v) else v for v in found] for name, found in metrics.items()}

    return {
        "seeds": judged.seeds,
        "best": told(judged.best.metrics),
        "preset": told(judged.preset.metrics),
        "best - preset": told(judged.gain),
    }
