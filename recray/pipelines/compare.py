"""Train any models on one data set and measure them under one card."""

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from recray.config import ConfigError, override
from recray.contract import Retriever
from recray.data.events.split_data import DataConfig, SplitData
from recray.eval.compare import Row
from recray.eval.evaluate import Evaluation
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
    data: DataConfig,
    models: Sequence[str],
    seeds: int,
    ks: Sequence[int] = (10,),
    curves: Path | None = None,
    *,
    strict: bool = False,
) -> list[Row]:
    """One row per model and seed, all on the test part of the same split; best weights by validation.

    Args:
        data: which, its split, and what its events mean: the same to all models.
        curves: a PNG for the learning curves of the models that have epochs.
        strict: data with a leak is refused, before anything is trained.

    Raises:
        ConfigError: a model that cannot be trained, or that does not rank a catalogue.
        DataError: the data set is not at hand.
    """
    entries = [entry for model in models for entry in entries_of(model, data, seeds)]
    rows: list[Row] = []
    metric = ""
    histories: dict[str, list[Sequence[Report]]] = {}
    for entry in entries:
        title, recipe, run = entry
        began = time.perf_counter()
        opened = recipe.open(run)
        if not rows:  # all models are asked the same
            report(find_leaks(opened), strict=strict)
        reports: list[dict[str, float]] = []
        rows.append(Row(title, run.seed, measured_once(entry, opened, ks, reports)))
        if loop := recipe.loop(run):
            histories.setdefault(title, []).append(reports)
            metric = metric or loop.metric
        elapsed_s = time.perf_counter() - began
        log.info("%s seed %d: trained and measured in %.1f s", title, run.seed, elapsed_s)
    if curves and histories:
        plot_curves(histories, curves, metric)
    return rows


def measured_once(
    entry: Entry, opened: SplitData, ks: Sequence[int], reports: list[dict[str, float]]
) -> Evaluation:
    """Trains one run on its opened data and measures it on the test part; adds what its epochs reported.

    Raises:
        ConfigError, DataError: it cannot be trained.
    """
    title, recipe, run = entry
    named = f"{title} seed {run.seed}"
    model = _best(recipe, run, opened, named, reports)
    if recipe.learns_before_test(run):
        epochs = chosen_epochs(reports[-1])
        opened = recipe.learning(run, opened, "before test")
        model = _best(recipe, recipe.again(run, epochs), opened, f"{named}, before test", [])
    assert isinstance(model, Retriever)
    return evaluate_retriever(model, opened, "test", tuple(ks))


def _best(recipe: AnyRecipe, run: Run, data: object, title: str, reports: list[dict[str, float]]) -> object:
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


def entries_of(
    model: str,
    data: DataConfig,
    seeds: int,
    settings: Mapping[str, object] = MappingProxyType({}),
    title: str = "",
) -> list[Entry]:
    """A run per seed; what draws nothing at random says it all in one run.

    Args:
        settings: that differ from the preset, by dotted path; title: empty, the model's name.
    Raises:
        ConfigError: there is no such model or setting, or it does not rank the catalogue.
    """
    recipe = RECIPES[model]
    if not recipe.ranks_catalogue:
        raise ConfigError(
            f"{model!r} does not rank the catalogue, so there is no full ranking to compare: its own job "
            "measures it (`recray models`)"
        )
    run = override(run_for(recipe, data.dataset), {**settings, "data": data})
    count = seeds if recipe.draws(run) else 1
    return [Entry(title or model, recipe, override(run, {"seed": seed})) for seed in range(count)]
