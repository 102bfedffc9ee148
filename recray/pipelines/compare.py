"""Train any models on one data set and measure them under one card."""

import functools
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qsl

from recray.config import ConfigError, override
from recray.contract import Retriever
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.eval.compare import Row
from recray.eval.evaluate import Evaluation
from recray.launch.tasks import run_each
from recray.pipelines.leaks import find_leaks, report
from recray.pipelines.same_queries import Contender, ask_the_same, known_events
from recray.pipelines.train import chosen_epochs
from recray.recipes import RECIPES, run_for
from recray.recipes.retriever import evaluate_retriever
from recray.store import Store
from recray.track.console import ConsoleProgress
from recray.track.curves import plot_curves
from recray.track.history import Report
from recray.train.context import Context, LaunchConfig
from recray.train.run import AnyRecipe, Run

log = logging.getLogger(__name__)
HERE = LaunchConfig(where="local")


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
    launch: LaunchConfig = HERE,
) -> list[Row]:
    """One row per model and seed, all on the test part of the same split; best weights by validation.

    Args:
        data: which, its split, and what its events mean: the same to all models.
        models: to train, ``sasrec`` or with settings ``sasrec?model.dim=128&optim.lr=1e-3``; and published
            versions, ``shop-sasrec:3``, which are asked as they are.
        curves: a PNG for the learning curves of the models that have epochs.
        strict: data with a leak is refused, before anything is trained.
        launch: where models are trained: one after the other in this process, or side by side as Ray tasks,
            each with what one worker takes.

    Raises:
        ConfigError: a model that cannot be trained, or that does not rank a catalogue; a version of other
            data.
        StoreError: there is no such version.
        DataError: the data set is not at hand.
    """
    words = list(dict.fromkeys(models))
    entries = {word: _entries(word, data, seeds) for word in words if ":" not in word}
    contenders = {word: _version(word) for word in words if ":" in word}
    split = open_split(data)
    report(find_leaks(split), strict=strict)
    # Before what takes hours: a version may know others than the data has.
    rows = {word: [_asked(word, one, split, ks)] for word, one in contenders.items()}
    metric = ""
    histories: dict[str, list[Sequence[Report]]] = {}
    found = _all_trained([entry for runs in entries.values() for entry in runs], ks, launch)
    for word, runs in entries.items():
        rows[word] = []
        for title, recipe, run in runs:
            evaluation, reports = found[title, run.seed]
            rows[word].append(Row(title, run.seed, evaluation))
            if loop := recipe.loop(run):
                histories.setdefault(title, []).append(reports)
                metric = metric or loop.metric
    if curves and histories:
        plot_curves(histories, curves, metric)
    return [row for word in words for row in rows[word]]


class _Cell(NamedTuple):
    """An entry as it travels: a recipe does not."""

    title: str
    model: str
    run: Run


class _Measured(NamedTuple):
    evaluation: Evaluation
    reports: list[dict[str, float]]


def _all_trained(
    entries: Sequence[Entry], ks: Sequence[int], launch: LaunchConfig
) -> dict[tuple[str, int], _Measured]:
    """By title and seed."""
    cells = [_Cell(title, recipe.name, run) for title, recipe, run in entries]
    work = functools.partial(_trained, tuple(ks))
    here = launch.where == "local"
    came = ((cell, work(cell)) for cell in cells) if here else run_each(work, cells, launch)
    found = {}
    for cell, measured in came:
        if isinstance(measured, Exception):
            raise measured
        found[cell.title, cell.run.seed] = measured
    return found


def _trained(ks: tuple[int, ...], cell: _Cell) -> _Measured:
    began = time.perf_counter()
    reports: list[dict[str, float]] = []
    entry = Entry(cell.title, RECIPES[cell.model], cell.run)
    evaluation = measured_once(entry, entry.recipe.open(cell.run), ks, reports)
    elapsed_s = time.perf_counter() - began
    log.info("%s seed %d: trained and measured in %.1f s", cell.title, cell.run.seed, elapsed_s)
    return _Measured(evaluation, reports)


def _entries(word: str, data: DataConfig, seeds: int) -> list[Entry]:
    model, _, query = word.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ConfigError(f"{word!r}: settings are model?name=value&name=value") from None
    return entries_of(model, data, seeds, {path: _value(text) for path, text in pairs}, called(model, pairs))


def called(model: str, settings: Iterable[tuple[str, object]]) -> str:
    """A model with settings of its own, for a person."""
    return ", ".join([model, *(f"{path} {value}" for path, value in settings)])


def _value(text: str) -> object:
    """Of a setting, as JSON has it; else it is a word."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def _version(word: str) -> Contender:
    name, _, version = word.partition(":")
    store = Store()
    return Contender.of(store, store.open(name, version))


def _asked(title: str, one: Contender, split: SplitData, ks: Sequence[int]) -> Row:
    """A version on the test part: its model that had not learnt it.

    Raises:
        ConfigError: it does not know all users and items, and would be asked less than the others.
    """
    known_N = known_events(one, split.dataset)
    if not known_N.all():
        raise ConfigError(
            f"{title} knows the users and items of {known_N.sum():,} of {len(known_N):,} events of "
            f"{split.dataset.manifest.name}: it learnt other data, and would be asked less than the others"
        )
    return Row(title, 0, ask_the_same([one], split, ks)[0])


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
