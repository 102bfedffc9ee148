"""Models x data sets x seeds, each measured once: what was done stays done, whatever is killed."""

import json
import logging
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from recray import __version__, paths
from recray.config import ConfigError, from_dict, settings, to_dict
from recray.data.events.prepare import prepared_manifest
from recray.data.events.split_data import DataConfig
from recray.eval.evaluate import Evaluation
from recray.eval.kept import read_evaluation, write_evaluation
from recray.eval.metrics import check_ks, require_metric
from recray.folders import build_once, digest
from recray.launch.tasks import run_each
from recray.pipelines.compare import Entry, entries_of, measured_once
from recray.recipes import RECIPES
from recray.train.context import LaunchConfig
from recray.train.run import Run

log = logging.getLogger(__name__)
CELL = "cell.json"


@dataclass(frozen=True, kw_only=True)
class ModelOf:
    """A model in the table."""

    model: str
    title: str = ""
    """Empty: the model's name."""
    settings: dict[str, Any] = field(default_factory=dict)
    """By dotted path; the others are those of the preset for each data set."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What a file of jobs/experiments says."""

    name: str
    about: str = ""
    """What it is to find out; stands on the page."""
    datasets: tuple[str, ...]
    models: tuple[ModelOf, ...]
    data: dict[str, Any] = field(default_factory=lambda: {"split": "leave-one-out"})
    """How each data set is cut and asked (``DataConfig``): the same for all models."""
    seeds: int = 3
    ks: tuple[int, ...] = (10,)
    metric: str = "ndcg@10"
    """By which models are told apart."""

    def __post_init__(self) -> None:
        check_ks(self.ks)
        titles = [each.title or each.model for each in self.models]
        if doubled := {title for title in titles if titles.count(title) > 1}:
            raise ConfigError(f"experiment {self.name!r}: two models are called {', '.join(sorted(doubled))}")
        if self.seeds < 1 or not self.datasets or not self.models:
            raise ConfigError(f"experiment {self.name!r} needs at least a data set, a model and a seed")
        if require_metric(self.metric, further=()) not in self.ks:
            raise ConfigError(f"experiment {self.name!r}: {self.metric} is not measured, ks are {self.ks}")
        for each in self.models:
            if common := [path for path in each.settings if path.split(".")[0] in ("data", "seed")]:
                raise ConfigError(
                    f"experiment {self.name!r}: {', '.join(common)} is the same for all models, not of "
                    f"{each.title or each.model} alone: say it under data or seeds"
                )

    @property
    def folder(self) -> Path:
        return paths.runs_dir() / "experiments" / self.name


class Cell(NamedTuple):
    """One run of one model on one data set, and where it is kept."""

    title: str
    dataset: str
    model: str
    run: Run
    folder: Path


class Result(NamedTuple):
    """What is known of a cell that was done."""

    title: str
    dataset: str
    seed: int
    draws: bool  # whether another seed is another model
    evaluation: Evaluation
    reports: list[dict[str, float]]  # of its epochs
    seconds: float
    peak_gib: float
    settings: dict[str, Any]


class Failed(NamedTuple):
    title: str
    dataset: str
    seed: int
    reason: str

    def __str__(self) -> str:
        return f"{self.title} on {self.dataset}, seed {self.seed}: {self.reason}"


def read_experiment(path: Path) -> Experiment:
    """
    Raises:
        ConfigError: no such file, or what it says is none.
    """
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} holds no experiment: {error}") from error
    return from_dict(Experiment, said)


def cells_of(experiment: Experiment) -> list[Cell]:
    """In the order of data sets, models and seeds; a model that draws nothing has one.

    Raises:
        ConfigError: a model or a setting that there is not; before anything is trained.
    """
    found = []
    for dataset in experiment.datasets:
        data = from_dict(DataConfig, {**experiment.data, "dataset": dataset})
        data_hash = prepared_manifest(dataset, k_core=data.k_core).hash
        for one in experiment.models:
            for title, _, run in entries_of(one.model, data, experiment.seeds, one.settings, one.title):
                said = {
                    "run": to_dict(run),
                    "model": one.model,
                    "ks": list(experiment.ks),
                    "data_hash": data_hash,
                    "code": __version__,
                }
                found.append(Cell(title, dataset, one.model, run, experiment.folder / "cells" / digest(said)))
    return found


def run_experiment(
    experiment: Experiment, launch: LaunchConfig, told: Callable[[str], None] = log.info
) -> tuple[list[Result], list[Failed]]:
    """Does what is not done yet; a cell that fails ends nothing, and is tried again the next time.

    Args:
        told: a line for each cell.
    """
    cells = cells_of(experiment)
    missing = [cell for cell in cells if not (cell.folder / CELL).is_file()]
    told(f"{experiment.name}: {len(cells)} runs, {len(cells) - len(missing)} of them done before")
    failed, began = [], time.monotonic()
    came = run_each(partial(_do, experiment.ks), missing, launch, logging.WARNING)
    for done, (cell, reason) in enumerate(came, 1):
        name = f"{cell.title} on {cell.dataset}, seed {cell.run.seed}"
        if isinstance(reason, Exception):
            failed.append(Failed(cell.title, cell.dataset, cell.run.seed, _words(reason)))
            told(f"{name} failed: {failed[-1].reason}")
            continue
        left_s = (time.monotonic() - began) / done * (len(missing) - done)
        reached = read_evaluation(cell.folder).means()[experiment.metric]
        told(f"{name}: {experiment.metric} {reached:.4f}, {left_s / 60:.0f} min left")
    return [read_cell(cell) for cell in cells if (cell.folder / CELL).is_file()], failed


def _do(ks: tuple[int, ...], cell: Cell) -> None:
    """In a process of its own."""
    began = time.monotonic()
    reports: list[dict[str, float]] = []
    entry = Entry(cell.title, RECIPES[cell.model], cell.run)  # a recipe does not travel
    evaluation = measured_once(entry, entry.recipe.open(cell.run), ks, reports)
    said = {
        "title": cell.title,
        "dataset": cell.dataset,
        "seed": cell.run.seed,
        "draws": entry.recipe.draws(cell.run),
        "settings": settings(cell.run),
        "seconds": round(time.monotonic() - began, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "reports": reports,
    }

    def build(target: Path, _: Path) -> None:
        write_evaluation(target, evaluation)
        (target / CELL).write_text(json.dumps(said, indent=1))

    build_once(cell.folder, lambda made: (made / CELL).is_file(), build)


def read_cell(cell: Cell) -> Result:
    said = json.loads((cell.folder / CELL).read_text())
    shown = {key: said[key] for key in ("seed", "draws", "reports", "seconds", "peak_gib", "settings")}
    evaluation = read_evaluation(cell.folder)
    return Result(title=cell.title, dataset=cell.dataset, evaluation=evaluation, **shown)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
