"""Trials one after the other in this process: the way without Ray. None is stopped early."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from recray import paths
from recray.config import Config, ConfigError, override
from recray.launch import local
from recray.launch.ray_tune import SCORE, Plan, Proposal, Search, begun, scored, trial_name
from recray.launch.runs import Task
from recray.schema import DataError
from recray.track import history
from recray.train.context import Context, LaunchConfig

R = TypeVar("R", bound=Config)


def run_trials(task: Task[R], run: R, search: Search, plan: Plan, launch: LaunchConfig, name: str) -> None:
    """As ``ray_tune.run_trials``.

    Raises:
        ConfigError: population based training, whose trials go on side by side.
    """
    if plan.mutations:
        raise ConfigError(
            "population based training needs trials side by side: search on Ray, or by tpe or random"
        )
    while proposal := search.propose():
        if why := _failure(task, run, search, proposal, plan, launch, name):
            search.ended(proposal, "failed", why)
        else:
            search.ended(proposal, "finished", "")


def _failure(
    task: Task[R], run: R, search: Search, proposal: Proposal, plan: Plan, launch: LaunchConfig, name: str
) -> str:
    """Why the trial failed; empty: it did not."""
    place = trial_name(name, proposal.number)

    def tell(metrics: Mapping[str, Any]) -> None:
        if SCORE in (told := scored(dict(metrics), plan)):
            search.reported(proposal.number, told)

    def told(run: R, context: Context) -> None:
        def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
            context.report(metrics, checkpoint)
            tell(metrics)

        if context.resume_from:
            for earlier in history.by_epoch(history.read(paths.runs_dir() / place), plan.metric)[-1:]:
                tell(earlier)
        task(run, replace(context, report=report))

    with begun(name, proposal.number):
        try:
            local.run(told, override(run, proposal.changes), replace(launch, where="local", keep=1), place)
        except (ConfigError, DataError) as error:
            return str(error)
        except Exception as error:  # of whatever kind: it ends its trial and nothing else
            return f"{type(error).__name__}: {error}"
    return ""
