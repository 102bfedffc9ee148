"""The one life of everything that recray trains: from a run to a published version."""

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

from recray.config import to_dict
from recray.data.logged.origin import origin_of
from recray.launch import draw_curves, launch, place, recorded
from recray.launch.machine import code, libraries, machine
from recray.launch.runs import RunResult, run_name
from recray.launch.tasks import run_there
from recray.monitor.leaks import Leak, write_leaks
from recray.pipelines.leaks import find_leaks, report
from recray.redaction import hidden_within
from recray.schema import Learnt
from recray.store import Bundle, Draft, RunRecord, Store
from recray.store.drafts import Drafts
from recray.store.record import write_history
from recray.track.record import Outcome
from recray.train.context import LaunchConfig
from recray.train.run import AnyRecipe, DataFacts, Measured, Recipe, Run

log = logging.getLogger(__name__)
_MORE: dict[Learnt, str] = {"before test": "the validation part", "all": "all parts"}
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


def train(
    recipe: Recipe[R, D, M],
    run: R,
    where: LaunchConfig,
    store: Store,
    *,
    strict: bool = False,
    beside: Mapping[str, bytes] = MappingProxyType({}),
) -> Trained:
    """Opens, looks for leaks, fits, measures, fits again on everything where the run says so, and publishes.

    All that workers do not is done by one process that has what a worker takes, somewhere on the cluster
    (``run_there``); this one waits, unless the version is but a draft, which is this machine's alone. The
    version carries the whole run, the metrics of its split and, where it was fitted again, both models:
    the one that is served and the one that was measured (``Bundle.measured``).

    Args:
        store: where the version goes. What a run builds on (a ranker's retriever, a decoder's semantic ids)
            is read from the store under RECRAY_HOME, by every worker.
        strict: data with a leak is refused, before anything is trained.
        beside: further files of the version, by name.

    Raises:
        ConfigError, DataError: the data, the settings or a worker does not allow it; mostly before training.
    """
    if isinstance(store, Drafts):
        return _lived(recipe, run, where, store, strict, beside)
    file = Path(run.data.dataset.partition("?")[0]).stem
    where = dataclasses.replace(where, run=run_name(where, f"{recipe.name}-{file}"))  # also if begun again
    work = functools.partial(_lived, recipe, run, where, store, strict, dict(beside))
    trained = run_there(work, own_needs(recipe, where), where.run)
    # What was published elsewhere is brought here where the home is a bucket.
    return trained._replace(bundle=store.resolve(trained.bundle.reference))


def own_needs(recipe: AnyRecipe, where: LaunchConfig) -> LaunchConfig:
    """What a training takes beside its workers: no GPU, unless it has none and is done there."""
    return dataclasses.replace(where, gpu=False, accelerator="") if recipe.distributed else where


def _lived(
    recipe: Recipe[R, D, M],
    run: R,
    where: LaunchConfig,
    store: Store,
    strict: bool,
    beside: Mapping[str, bytes],
) -> Trained:
    data = recipe.open(run)
    report(leaks := find_leaks(data), strict=strict)
    where = _placed(recipe, where)
    with recorded(run, where, _title(recipe, data), notify=True) as recording:
        fitted = judged = fit(recipe, run, dataclasses.replace(where, run=recording.name), data)
        if recipe.learns_before_test(run):
            judged = fit_again(recipe, run, where, fitted, "before test")
        measured = recipe.measure(run, judged.data, judged.model)
        draft, served = recipe.draft(run, judged.data, judged.model, measured), judged
        if recipe.learns_before_serving(run):
            served = fit_again(recipe, run, where, fitted, "all")
            draft = draft.refitted(recipe.draft(run, served.data, served.model, measured))
        record = _record(recipe, run, where, fitted, served)
        bundle = _published(draft, record, leaks, fitted.done, store, beside)
        recording.finish(_outcome(bundle, measured))
    return Trained(bundle, measured)


def fit_again(
    recipe: Recipe[R, D, M], run: R, where: LaunchConfig, fitted: Fitted[D, M], learn: Learnt
) -> Fitted[D, M]:
    """The model that has learnt more; a run of its own beside the first.

    It is trained from the start, for as long as validation chose. What is served goes on from the weights
    that validation chose instead, where the run says so.
    """
    where = dataclasses.replace(where, run=f"{fitted.done.name}-{learn.replace(' ', '-')}")
    data = recipe.learning(run, fitted.data, learn)
    if learn == "all" and (further := recipe.continued(run)):
        log.info("%s: goes on from the weights that were chosen", recipe.name)
        return fit(recipe, further, where, data, learn, fitted.done.checkpoint)
    epochs = chosen_epochs(fitted.done.metrics)
    log.info("%s: trained again with %s, for %d epochs", recipe.name, _MORE[learn], epochs)
    return fit(recipe, recipe.again(run, epochs), where, data, learn)


def chosen_epochs(last_report: Mapping[str, float]) -> int:
    """As many as validation chose; of what is not validated, as many as there were."""
    return int(last_report.get("best_epoch", last_report.get("epoch", 0)))


def fit(
    recipe: Recipe[R, D, M],
    run: R,
    where: LaunchConfig,
    data: D | None = None,
    learn: Learnt = "training",
    start_from: Path | None = None,
) -> Fitted[D, M]:
    """The model of a run, trained where that says; the data is opened once here, unless it is handed on ready
    to be learnt, and once by each worker elsewhere.

    Args:
        start_from: a checkpoint of another run, whose weights and optimizers this one begins with.
    """
    data = recipe.open(run) if data is None else data
    log.info("%s: %s", *recipe.facts(data)[::2])
    where = _placed(recipe, where)
    # A worker on another machine opens the data itself.
    local = where.where == "local"
    ready = {"data": data} if local else {"learn": learn}
    work = functools.partial(recipe.work, start_from=start_from, **ready)
    began = time.monotonic()
    done = launch(work, run, where, _title(recipe, data), communicator=recipe.communicator)
    duration_s = time.monotonic() - began
    if loop := recipe.loop(run):
        draw_curves(done, loop)
    return Fitted(data, recipe.restore(run, data, done.checkpoint), done, duration_s)


def _placed(recipe: AnyRecipe, where: LaunchConfig) -> LaunchConfig:
    """Where it really happens: what several workers do no faster is done here."""
    return where if recipe.distributed else dataclasses.replace(where, where="local")


def _title(recipe: Recipe[R, D, M], data: D) -> str:
    return f"{recipe.name}-{recipe.facts(data).name}"


def _outcome(bundle: Bundle, measured: Measured) -> Outcome:
    return Outcome(
        state="finished",
        metrics={name: value for name, value in measured.means().items() if math.isfinite(value)},
        card=measured.card.to_json() if measured.card else None,
        reference=str(bundle.reference),
        bundle=str(bundle.folder),
    )


def _record(
    recipe: Recipe[R, D, M], run: R, where: LaunchConfig, fitted: Fitted[D, M], served: Fitted[D, M]
) -> RunRecord:
    facts: DataFacts = recipe.facts(fitted.data)
    goes_on = recipe.learns_before_serving(run) and recipe.continued(run) is not None
    return RunRecord(
        recipe=recipe.name,
        settings=to_dict(recipe.exact(run, fitted.data)),
        seed=run.seed,
        code=code(),
        data=facts.name,
        data_hash=facts.hash,
        epochs=fitted.done.metrics.get("epoch", 0.0),
        duration_s=round(fitted.duration_s + (served.duration_s if served is not fitted else 0.0), 1),
        learnt_until=recipe.facts(served.data).until,
        refitted="" if served is fitted else "continued" if goes_on else "again",
        refitted_epochs=None if served is fitted else int(served.done.metrics.get("epoch", 0)),
        where=place(where),
        machine=machine(),
        versions=libraries(),
        feedback=origin.lineage() if (origin := origin_of(run.data.dataset)) else {},
    )


def _published(
    draft: Draft,
    record: RunRecord,
    leaks: Sequence[Leak],
    done: RunResult,
    store: Store,
    beside: Mapping[str, bytes],
) -> Bundle:
    def write(folder: Path) -> None:
        draft.write(folder)
        write_history(folder, done.history())
        write_leaks(folder, leaks)
        for name, content in beside.items():
            (folder / name).write_bytes(content)

    run, config = hidden_within(to_dict(record)), hidden_within(draft.config)
    return store.publish(**vars(dataclasses.replace(draft, write=write, run=run, config=config)))
