"""The one life of everything that recray trains: from a run to a published version."""

import dataclasses
import functools
import logging
import time
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from recray.config import to_dict
from recray.launch import draw_curves, launch, place
from recray.launch.machine import code, libraries, machine
from recray.launch.runs import RunResult
from recray.store import Bundle, Draft, RunRecord, Store
from recray.store.record import write_history
from recray.train.context import LaunchConfig
from recray.train.run import DataFacts, Measured, Recipe, Run

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Run)
D = TypeVar("D")
M = TypeVar("M")


class Trained(NamedTuple):
    bundle: Bundle
    measured: Measured


class Fitted(NamedTuple, Generic[D, M]):
    """A model with its best weights, the data it was opened with, and what its run left behind."""

    data: D
    model: M
    done: RunResult
    duration_s: float


def train(recipe: Recipe[R, D, M], run: R, where: LaunchConfig, store: Store) -> Trained:
    """Opens, fits, measures and publishes; the version carries the whole run.

    Args:
        store: where the version goes. What a run builds on (a ranker's retriever, a decoder's semantic ids)
            is read from the store under RECRAY_HOME, by every worker.

    Raises:
        ConfigError, DataError: the data, the settings or a worker does not allow it; mostly before training.
    """
    fitted = fit(recipe, run, where)
    measured = recipe.measure(run, fitted.data, fitted.model)
    draft = recipe.draft(run, fitted.data, fitted.model, measured)
    return Trained(_published(draft, _record(recipe, run, where, fitted), fitted.done, store), measured)


def fit(recipe: Recipe[R, D, M], run: R, where: LaunchConfig) -> Fitted[D, M]:
    """The model of a run, trained where that says; the data is opened once here and once by each worker."""
    data = recipe.open(run)
    log.info("%s: %s", *recipe.facts(data)[::2])
    if not recipe.distributed:
        where = dataclasses.replace(where, where="local")
    # A worker on another machine opens the data itself.
    work = functools.partial(recipe.work, data=data) if where.where == "local" else recipe.work
    began = time.monotonic()
    title = f"{recipe.name}-{recipe.facts(data).name}"
    done = launch(work, run, where, title, communicator=recipe.communicator)
    duration_s = time.monotonic() - began
    if loop := recipe.loop(run):
        draw_curves(done, loop)
    return Fitted(data, recipe.restore(run, data, done.checkpoint), done, duration_s)


def _record(recipe: Recipe[R, D, M], run: R, where: LaunchConfig, fitted: Fitted[D, M]) -> RunRecord:
    facts: DataFacts = recipe.facts(fitted.data)
    return RunRecord(
        recipe=recipe.name,
        settings=to_dict(recipe.exact(run, fitted.data)),
        seed=run.seed,
        code=code(),
        data=facts.name,
        data_hash=facts.hash,
        epochs=fitted.done.metrics.get("epoch", 0.0),
        duration_s=round(fitted.duration_s, 1),
        where=place(where),
        machine=machine(),
        versions=libraries(),
    )


def _published(draft: Draft, record: RunRecord, done: RunResult, store: Store) -> Bundle:
    def write(folder: Path) -> None:
        draft.write(folder)
        write_history(folder, done.history())

    return store.publish(**vars(dataclasses.replace(draft, write=write, run=to_dict(record))))
