"""Train any models on one data set and measure them under one card."""

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recray import checkpoint
from recray.config import ConfigError
from recray.eval.compare import Row
from recray.models import CONTENT_MODELS, ROW_MODELS
from recray.recipes import preset, recipe
from recray.recipes.retrieval import evaluate_retriever, prepared
from recray.track.console import ConsoleProgress
from recray.track.curves import plot_curves
from recray.track.history import Report
from recray.train.context import Context

log = logging.getLogger(__name__)


def compare_models(
    dataset: str,
    split: str,
    models: Sequence[str],
    seeds: int,
    ks: Sequence[int] = (10,),
    curves: Path | None = None,
) -> list[Row]:
    """One row per model and seed, all on the test part of the same split; best weights by validation.

    ``curves`` names a PNG for the learning curves of the models that have epochs.

    Raises:
        ConfigError: a model that cannot be trained.
        DataError: the data set is not at hand.
    """
    runs = [run for model in models for run in _runs(model, dataset, split, seeds)]
    rows = []
    histories: dict[str, list[list[Report]]] = {}
    for model, run in runs:
        began = time.perf_counter()
        title = f"{model} seed {run.seed}"
        reports: list[Report] = []
        trained = _train_to_best(model, run, title, reports)
        if hasattr(run, "loop"):
            histories.setdefault(model, []).append(reports)
        evaluation = evaluate_retriever(trained, prepared(run.data), "test", tuple(ks))
        rows.append(Row(model, run.seed, evaluation))
        log.info("%s: trained and measured in %.1f s", title, time.perf_counter() - began)
    if curves and histories:
        metric = next(run.loop.metric for _, run in runs if hasattr(run, "loop"))
        plot_curves(histories, curves, metric)
    return rows


def _train_to_best(model: str, run: Any, title: str, reports: list[Report]) -> Any:
    """The model with the weights of its best validation, where it has any; adds what it reports."""
    with tempfile.TemporaryDirectory() as name:
        best = Path(name) / "best"

        def keep(metrics: dict[str, float], folder: Path | None) -> None:
            reports.append(metrics)
            if folder is not None and "score" in metrics:
                shutil.rmtree(best, ignore_errors=True)
                shutil.copytree(folder, best)

        trained: Any = recipe(model).train(run, Context(progress=ConsoleProgress(title), report=keep))
        if best.exists():
            checkpoint.load_model(best, trained)
    return trained


def _runs(model: str, dataset: str, split: str, seeds: int) -> list[tuple[str, Any]]:
    """A run per seed; what draws nothing at random says it all in one run."""
    if model in ROW_MODELS or model in CONTENT_MODELS:
        scored = "rows" if model in ROW_MODELS else "content"
        raise ConfigError(
            f"{model!r} scores {scored}, not the catalogue, so there is no full ranking to compare: its job, "
            f"jobs/train_{model}.py, measures it"
        )
    run = preset(model, dataset)
    run = replace(run, data=replace(run.data, split=split))
    count = seeds if hasattr(run, "optim") else 1
    return [(model, replace(run, seed=seed)) for seed in range(count)]
