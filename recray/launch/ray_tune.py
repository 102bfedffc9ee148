"""A hyperparameter search: each trial is the one training loop with some settings changed."""

import logging
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from recray import paths
from recray.config import Config, ConfigError, override, value_at
from recray.launch.runs import Task, run_name
from recray.track.console import setup_logging
from recray.train.context import Context, LaunchConfig

log = logging.getLogger(__name__)


R = TypeVar("R", bound=Config)


class Trial(NamedTuple):
    """One setting and the best validation that it reached."""

    changes: dict[str, Any]  # dotted path -> value, as ``config.override`` takes it
    score: float
    epoch: int


def search(
    task: Task[R],
    run: R,
    space: dict[str, Any],
    goal: str,
    launch: LaunchConfig,
    *,
    title: str,
    num_samples: int,
    max_epochs: int,
) -> list[Trial]:
    """Runs trials of one worker each, stops the hopeless ones early (ASHA, https://arxiv.org/abs/1810.05934).

    Args:
        space: dotted path -> a Tune distribution, or a plain value for all trials.
        goal: validation metric to maximise; the run's loop reports it as ``best_<goal>``.
    Returns:
        Finished and stopped trials, best first.
    Raises:
        ConfigError: a path of the space names no setting of the run, or no trial reported anything.
    """
    for path in space:
        override(run, {path: value_at(run, path)})  # a misspelt path fails here, not in every trial
    if not ray.is_initialized():
        ray.init(logging_level=logging.WARNING)
    name, metric = run_name(launch, f"tune-{title}"), f"best_{goal}"
    resources = {"CPU": launch.cpus_per_worker, **({"GPU": 1} if launch.gpu else {})}
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, task=task, run=run, launch=launch), resources),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=metric,
            mode="max",
            num_samples=num_samples,
            scheduler=ASHAScheduler(time_attr="epoch", max_t=max_epochs, grace_period=min(5, max_epochs)),
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(paths.runs_dir()),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    ).fit()
    trials = [
        Trial(dict(r.config), float(r.metrics[metric]), int(r.metrics["epoch"]))
        for r in results
        if r.metrics and metric in r.metrics and r.config is not None
    ]
    if not trials:
        raise ConfigError(f"no trial of {name!r} reported {metric}: {'; '.join(map(str, results.errors))}")
    return sorted(trials, key=lambda trial: -trial.score)


def _trial(changes: dict[str, Any], *, task: Task[R], run: R, launch: LaunchConfig) -> None:
    """One trial: a worker of its own, which resumes where Tune paused or lost it."""
    setup_logging(logging.WARNING)
    torch.set_num_threads(launch.cpus_per_worker)
    checkpoint = tune.get_checkpoint()
    context = Context(
        device=torch.device("cuda" if launch.gpu else "cpu"),
        resume_from=Path(checkpoint.path) if checkpoint else None,
        report=_report,
    )
    task(override(run, changes), context)


def _report(metrics: dict[str, float], checkpoint: Path | None) -> None:
    tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None)
