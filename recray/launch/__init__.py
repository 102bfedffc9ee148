"""Launchers give the one training loop its context: this process, or Ray Train workers."""

import logging
from typing import Literal, TypeVar

from recray import paths
from recray.config import Config
from recray.launch import local
from recray.launch.runs import RunResult, Task, claim, run_name
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig

__all__ = ["RunResult", "Task", "draw_curves", "launch", "run_name"]

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Config)


def launch(
    task: Task[R],
    run: R,
    config: LaunchConfig,
    title: str,
    *,
    communicator: Literal["torch", "xgboost"] = "torch",
) -> RunResult:
    """Runs ``task(run, context)`` where the config says, and waits for it.

    ``communicator`` is what joins several workers: PyTorch's process group, or XGBoost's.

    Raises:
        ConfigError: a bad name, or an earlier run under it had other settings.
    """
    name = run_name(config, title)
    claim(name, run, config.where, title)
    log.info("run %s starts %s", name, place(config))
    if config.where == "local":
        return local.run(task, run, config, name)
    from recray.launch import ray_train  # Ray takes a second to import, and a local run does without

    start = ray_train.run_boosted if communicator == "xgboost" else ray_train.run
    return start(task, run, config, name)


def place(config: LaunchConfig) -> str:
    """Where a run happens, for a person."""
    return "in this process" if config.where == "local" else f"on {config.workers} Ray workers"


def draw_curves(done: RunResult, loop: LoopConfig) -> None:
    """The learning curve of a run that has epochs, beside its checkpoints."""
    from recray.track.curves import plot_curves  # matplotlib is slow to import, and workers import this file

    path = paths.runs_dir() / done.name / "curves.png"
    plot_curves({done.name: [done.history()]}, path, loop.metric, goal=loop.goal)
    log.info("learning curve: %s", path)
