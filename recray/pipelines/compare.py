"""Train any models on one data set and measure them under one card."""

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from recray.config import ConfigError, override
from recray.contract import Retriever
from recray.data.events.choices import EventChoices
from recray.eval.compare import Row
from recray.pipelines.leaks import find_leaks, report
from recray.pipelines.train import chosen_epochs
from recray.recipes import RECIPES, run_for
from recray.recipes.retriever import evaluate_retriever
from recray.track.console import ConsoleProgress
from recray.track.curves import plot_curves
from recray.track.history import Report
from recray.train.context import Context
from recray.train.run import AnyRecipe, Run

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A run in the table, and what it is called there."""

    title: str
    recipe: AnyRecipe
    run: Run


def compare_models(
    dataset: str,
    split: str,
    models: Sequence[str],
    seeds: int,
    ks: Sequence[int] = (10,),
    curves: Path | None = None,
    *,
    choices: EventChoices = EventChoices(),  # noqa: B008 - frozen
    strict: bool = False,
) -> list[Row]:
    """One row per model and seed, all on the test part of the same split; best weights by validation.

    Args:
        curves: a PNG for the learning curves of the models that have epochs.
        choices: what events mean, the same to all models.
        strict: data with a leak is refused, before anything is trained.

    Raises:
        ConfigError: a model that cannot be trained, or that does not rank a catalogue.
        DataError: the data set is not at hand.
    """
    names = [field.name for field in fields(EventChoices)]
    changes = {"data.split": split, **{f"data.{name}": getattr(choices, name) for name in names}}
    entries = [entry for model in models for entry in _entries(model, dataset, changes, seeds)]
    rows: list[Row] = []
    metric = ""
    histories: dict[str, list[list[Report]]] = {}
    for title, recipe, run in entries:
        began = time.perf_counter()
        data = recipe.open(run)
        if not rows:  # all models are asked the same
            report(find_leaks(data), strict=strict)
        reports: list[Report] = []
        named = f"{title} seed {run.seed}"
        model = _best(recipe, run, data, named, reports)
        if recipe.learns_before_test(run):
            epochs = chosen_epochs(reports[-1])
            data = recipe.learning(run, data, "before test")
            model = _best(recipe, recipe.again(run, epochs), data, f"{named}, before test", [])
        if loop := recipe.loop(run):
            histories.setdefault(title, []).append(reports)
            metric = metric or loop.metric
        assert isinstance(model, Retriever)
        rows.append(Row(title, run.seed, evaluate_retriever(model, data, "test", tuple(ks))))
        elapsed_s = time.perf_counter() - began
        log.info("%s seed %d: trained and measured in %.1f s", title, run.seed, elapsed_s)
    if curves and histories:
        plot_curves(histories, curves, metric)
    return rows


def _best(recipe: AnyRecipe, run: Run, data: object, title: str, reports: list[Report]) -> object:
    """The model with the weights of its best validation, where it has any; adds what it reports."""
    with tempfile.TemporaryDirectory() as name:
        best = Path(name) / "best"

        def keep(metrics: dict[str, float], folder: Path | None) -> None:
            reports.append(metrics)
            if folder is not None and "score" in metrics:
                shutil.rmtree(best, ignore_errors=True)
                shutil.copytree(folder, best)

        trained = recipe.work(run, Context(progress=ConsoleProgress(title), report=keep), data=data)
        return recipe.restore(run, data, best) if best.exists() else trained


def _entries(model: str, dataset: str, changes: Mapping[str, object], seeds: int) -> list[Entry]:
    """A run per seed; what draws nothing at random says it all in one run."""
    recipe = RECIPES[model]
    if not recipe.ranks_catalogue:
        raise ConfigError(
            f"{model!r} does not rank the catalogue, so there is no full ranking to compare: its own job "
            "measures it (`recray models`)"
        )
    run = override(run_for(recipe, dataset), changes)
    count = seeds if recipe.loop(run) else 1
    return [Entry(model, recipe, override(run, {"seed": seed})) for seed in range(count)]
