"""Trials side by side on Ray Tune: it is asked what to try, tells what came of it, and keeps nothing itself.

A trial is a run of its own, ``<search>/trials/0007``: in one process as a local run, or on several workers
as a run of Ray Train. It goes on from its own last checkpoint, whoever was killed; Tune's state on disk is
never read again.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import ray
import ray.train.torch
import ray.train.xgboost
import torch
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search.searcher import Searcher

from recray import paths, storage
from recray.config import Config, ConfigError, UnavailableError, override
from recray.folders import locked, write_whole
from recray.launch import cluster, local, ray_train
from recray.launch.runs import Task
from recray.launch.tune_domains import range_of
from recray.redaction import hidden
from recray.schema import DataError
from recray.track import history
from recray.track.console import setup_logging
from recray.train.context import Communicator, Context, LaunchConfig
from recray.typed_values import plain

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Config)
SCORE = "searched"  # the goal's best so far, under one name for all models
BASELINE = 0  # the trial that others are compared with: never stopped early
REDUCTION = 3
TRIAL = "trial"  # where a trial's config holds its proposal
REFUSED = "refused.txt"  # why a trial cannot be, in its folder; Ray Train writes it too
CHANGES = "changes.json"  # in a checkpoint: the settings that it was trained with last
Result = dict[str, Any]


class Proposal(NamedTuple):
    """What one trial tries."""

    number: int
    changes: dict[str, Any]  # dotted path -> value


class Search(Protocol):
    """Who knows what to try and takes down what came of it."""

    def propose(self) -> Proposal | None:
        """The next trial; None: enough."""

    def reported(self, number: int, metrics: Mapping[str, Any]) -> None: ...

    def ended(self, proposal: Proposal, status: Literal["finished", "stopped", "failed"], why: str) -> None:
        """``proposal`` with the changes that the trial had at its end."""


class Plan(NamedTuple):
    """How trials are run."""

    metric: str
    mode: Literal["max", "min"]
    trials: int  # that are still to be run
    epochs: int  # of one trial, at most; 1: one report, nothing to stop early
    grace: int
    asha: bool = True
    mutations: Mapping[str, Any] = {}  # what population based training changes; none: it is not asked for
    concurrent: int = 0  # trials at a time at most; 0: as many as the cluster has room for
    communicator: Communicator = "torch"


def trial_name(search: str, number: int) -> str:
    return f"{search}/trials/{number:04d}"


def trial_folder(search: str, number: int) -> Path:
    return paths.runs_dir() / trial_name(search, number)


def run_trials(task: Task[R], run: R, search: Search, plan: Plan, launch: LaunchConfig, name: str) -> None:
    """Runs trials until the search proposes no more; a failed one ends nothing but itself.

    Raises:
        ConfigError: the cluster has no room for a single trial.
    """
    ours = cluster.join(log_to_driver=False)  # its log would be that of many trials at once
    try:
        _run_trials(task, run, search, plan, launch, name)
    finally:
        if ours:
            ray.shutdown()


def _run_trials(task: Task[R], run: R, search: Search, plan: Plan, launch: LaunchConfig, name: str) -> None:
    room = room_for(launch, plan)
    log.info("%d trials, %d at a time", plan.trials, room)
    scratch = paths.runs_dir() / name / "ray"  # Tune's own state, of this start alone
    shutil.rmtree(scratch, ignore_errors=True)
    scheduler = _scheduler(plan)
    if plan.mutations:  # takes no searcher: the whole population is proposed at once
        population = [proposal._asdict() for proposal in iter(search.propose, None)]
        proposed: Result = {"param_space": {TRIAL: tune.grid_search(population)}}
        asked: Result = {"num_samples": 1}
    else:
        proposed, asked = {}, {"num_samples": plan.trials, "search_alg": _Asked(search)}
    given = {"task": task, "run": run, "launch": launch, "plan": plan, "name": name}
    trainable = tune.with_parameters(_trial, **given, environment=cluster.environment())
    # Ctrl-C is no way for a trial to end well; what is printed is up to whoever searches.
    os.environ |= {
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    tune.Tuner(
        tune.with_resources(trainable, _resources(launch)),
        tune_config=tune.TuneConfig(
            metric=SCORE,
            mode=plan.mode,
            scheduler=scheduler,
            max_concurrent_trials=None if plan.mutations else room,  # a population takes turns
            reuse_actors=True,  # a process that has imported everything is worth seconds to the next trial
            trial_dirname_creator=lambda trial: f"{_proposal(trial).number:04d}",
            **asked,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[_Told(search, scheduler, name)],
            failure_config=tune.FailureConfig(max_failures=launch.max_failures),
        ),
        **proposed,
    ).fit()
    shutil.rmtree(scratch, ignore_errors=True)


def room_for(launch: LaunchConfig, plan: Plan) -> int:
    """Trials that the cluster has room for at a time, with what an autoscaler may bring; or fewer, as asked.

    Raises:
        ConfigError: for none; or labels are asked for, which Tune's own processes do not know.
    """
    if launch.labels and launch.workers == 1:
        raise ConfigError("launch.labels place Ray Train's workers: ask for 2 workers or more in each trial")
    cluster.require_room(launch)
    room = (cluster.room(launch) + cluster.may_come(launch)) // launch.workers
    return min(room, plan.concurrent or room)


def _resources(launch: LaunchConfig) -> dict[str, float]:
    if launch.workers > 1:  # its workers are placed by Ray Train; the trial itself only waits for them
        return {"memory": 1.0}  # bytes; Tune wants something to be asked for
    return cluster.needs(launch)


class _Asked(Searcher):  # type: ignore[misc]  # ray carries no types
    """Tune's question what to try next, handed on."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self.search = search

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        proposal = self.search.propose()
        return Searcher.FINISHED if proposal is None else {TRIAL: proposal._asdict()}

    def on_trial_complete(self, trial_id: str, result: object = None, error: bool = False) -> None: ...

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None: ...


class _Told(tune.Callback):  # type: ignore[misc]
    """What Tune hears, handed on. A trial that was merely cut off with its driver has not ended."""

    def __init__(self, search: Search, scheduler: TrialScheduler, name: str) -> None:
        self.search, self.scheduler, self.name = search, scheduler, name

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Result, **info: object
    ) -> None:
        if SCORE in result:
            self.search.reported(_proposal(trial).number, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        refused = trial_folder(self.name, _proposal(trial).number) / REFUSED
        storage.refresh(refused)
        if refused.exists():
            self.search.ended(_proposal(trial), "failed", refused.read_text())
        elif _proposal(trial).number in getattr(self.scheduler, "stopped", ()):
            self.search.ended(_proposal(trial), "stopped", "")
        elif trial.last_result.get("done"):
            self.search.ended(_proposal(trial), "finished", "")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        self.search.ended(_proposal(trial), "failed", _reason(trial))


def _proposal(trial: Trial) -> Proposal:
    return Proposal(**trial.config[TRIAL])


def _reason(trial: Trial) -> str:
    """The last line of its traceback, which is what it said."""
    lines = [line.strip() for line in str(trial.get_error() or "").splitlines() if line.strip()]
    said = [line for line in lines if re.match(r"[\w.]+(Error|Exception): .", line)]
    return (said or lines or ["its process died"])[-1]


class _Asha(ASHAScheduler):  # type: ignore[misc]
    """Asynchronous successive halving (https://arxiv.org/abs/1810.05934), which spares the baseline."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.stopped: set[int] = set()

    def on_trial_result(self, tune_controller: object, trial: Trial, result: Result) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        number, going_on = _proposal(trial).number, str(TrialScheduler.CONTINUE)
        if decision != TrialScheduler.STOP or result["epoch"] >= self._max_t:
            return going_on  # at its last epoch a trial ends by itself
        if number == BASELINE:
            return going_on
        self.stopped.add(number)
        return decision


class _Pbt(PopulationBasedTraining):  # type: ignore[misc]
    """Population based training (https://arxiv.org/abs/1711.09846), which spares the baseline."""

    def __init__(self, epochs: int, mutations: Mapping[str, Any], **options: object) -> None:
        super().__init__(hyperparam_mutations={TRIAL: {"changes": dict(mutations)}}, **options)
        self.epochs, self.mutations = epochs, mutations

    def on_trial_result(self, tune_controller: object, trial: Trial, result: Result) -> str:
        if result.get("epoch", 0) >= self.epochs or _proposal(trial).number == BASELINE:
            return str(TrialScheduler.CONTINUE)
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[Result, Result]:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        changes = config[TRIAL]["changes"]
        for path, domain in self.mutations.items():  # Ray multiplies, whatever the domain ends at
            changes[path] = range_of(path, domain).nearest(changes[path])
        config[TRIAL]["number"] = _proposal(trial).number
        return config, operations


def _scheduler(plan: Plan) -> TrialScheduler:
    if plan.mutations:
        return _Pbt(plan.epochs, plan.mutations, time_attr="epoch", perturbation_interval=max(1, plan.grace))
    if not plan.asha or plan.epochs == 1:
        return FIFOScheduler()
    grace = min(max(1, plan.grace), plan.epochs)
    return _Asha(time_attr="epoch", max_t=plan.epochs, grace_period=grace, reduction_factor=REDUCTION)


def _trial(
    config: dict[str, Any],
    *,
    task: Task[R],
    run: R,
    launch: LaunchConfig,
    plan: Plan,
    name: str,
    environment: Mapping[str, str],
) -> None:
    """One trial. A process that lost its driver may still be writing: the lock lets it end first.

    What a setting does not allow is noted and ends the trial: Tune would try again after an error.
    """
    setup_logging(logging.WARNING)
    os.environ |= environment
    # One that is stopped hears of it at its next report; until then the next trial waits for its process.
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "10")
    number, changes = config[TRIAL]["number"], config[TRIAL]["changes"]
    with begun(name, number) as refused:
        try:
            changed = override(run, changes)
            if launch.workers == 1:
                _alone(task, changed, changes, launch, plan, trial_name(name, number))
            else:
                _on_workers(task, changed, launch, plan, trial_name(name, number))
        except UnavailableError:  # Tune tries again
            raise
        except (ConfigError, DataError) as error:
            write_whole(refused, hidden(str(error)).encode())
            storage.send(refused)


@contextmanager
def begun(search: str, number: int) -> Iterator[Path]:
    """A trial, alone in its folder, which holds no reports but those of the checkpoint that it goes on from.

    Yields:
        The file that says why it cannot be.
    """
    folder = trial_folder(search, number)
    refused = folder / REFUSED
    with locked(folder / ".lock"):
        storage.erase(refused)
        if not any(folder.glob("checkpoint_*")):
            (folder / history.FILE).unlink(missing_ok=True)
        yield refused


def _alone(
    task: Task[R], run: R, changes: Mapping[str, Any], launch: LaunchConfig, plan: Plan, name: str
) -> None:
    torch.set_num_threads(launch.cpus_per_worker)
    exploited = tune.get_checkpoint()  # another trial's, which population based training goes on from

    def told(run: R, context: Context) -> None:
        def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
            if checkpoint and plan.mutations:
                (checkpoint / CHANGES).write_text(json.dumps(plain(changes)))
            context.report(metrics, checkpoint)
            _tell(metrics, checkpoint, plan)

        if context.resume_from and not exploited:
            _tell_again(context.resume_from, plan, name)
        resume = Path(exploited.path) if exploited else context.resume_from
        task(run, replace(context, resume_from=resume, report=report))

    local.run(told, run, replace(launch, where="local", keep=1), name)


def _tell(metrics: dict[str, float], checkpoint: Path | None, plan: Plan) -> None:
    """Tune hears of what measured the goal; of weights where other trials may go on from them."""
    if SCORE in (told := scored(metrics, plan)):
        share = tune.Checkpoint.from_directory(str(checkpoint)) if checkpoint and plan.mutations else None
        tune.report(told, checkpoint=share)


def _tell_again(checkpoint: Path, plan: Plan, name: str) -> None:
    """What a trial that goes on had measured: there may be nothing left for it to measure."""
    if told := history.by_epoch(history.read(paths.runs_dir() / name), plan.metric):
        _tell(dict(told[-1]), checkpoint, plan)


def proposal_of(search: str, said: Proposal) -> Proposal:
    """What a trial that was cut off goes on with: population based training changes it on the way.

    The settings lie within the checkpoint, so that weights never go on with those of others.
    """
    for checkpoint in sorted(trial_folder(search, said.number).glob("checkpoint_*"))[-1:]:
        if (path := checkpoint / CHANGES).exists():
            return said._replace(changes=json.loads(path.read_text()))
    return said


def _on_workers(task: Task[R], run: R, launch: LaunchConfig, plan: Plan, name: str) -> None:
    def told(run: R, context: Context) -> None:
        def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
            context.report(scored(metrics, plan), checkpoint)

        task(run, replace(context, report=report))

    class Tell(TuneReportCallback):  # type: ignore[misc]
        def after_report(self, run_context: object, metrics: list[Result], checkpoint: object) -> None:
            if SCORE in metrics[0]:
                super().after_report(run_context, metrics, None)

    ray_train.run(told, run, launch, name, (Tell(),), plan.communicator)


def scored(metrics: dict[str, float], plan: Plan) -> dict[str, float]:
    """A report with what the search goes by, where it measured the goal."""
    if plan.metric not in metrics:
        return metrics
    return {**metrics, SCORE: metrics.get(f"best_{plan.metric}", metrics[plan.metric])}
