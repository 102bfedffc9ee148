"""Launchers give the one training loop its context: this process, or Ray Train workers."""

import logging
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from recray.train.context import Context, LaunchConfig

log = logging.getLogger(__name__)


class Task(Protocol):
    """Work for every worker; must report at least one checkpoint."""

    def __call__(self, run: Any, context: Context, /) -> object: ...


class RunResult(NamedTuple):
    """What a finished run leaves behind."""

    name: str
    checkpoint: Path
    metrics: dict[str, float]


def run_name(config: LaunchConfig, title: str) -> str:
    """The run's name: the one asked for, else a new one."""
    return config.run or f"{title}-{time.strftime('%Y%m%d-%H%M%S')}"


def launch(
    task: Task,
    run: Any,
    config: LaunchConfig,
    title: str,
    *,
    communicator: Literal["torch", "xgboost"] = "torch",
) -> RunResult:
    """Runs ``task(run, context)`` where the config says, and waits for it.

    ``communicator`` is what joins several workers: PyTorch's process group, or XGBoost's.
    """
    name = run_name(config, title)
    where = "in this process" if config.where == "local" else f"on {config.workers} Ray workers"
    log.info("run %s starts %s", name, where)
    if config.where == "local":
        from recray.launch import local

        return local.run(task, run, config, name)
    from recray.launch import ray_train

    start = ray_train.run_boosted if communicator == "xgboost" else ray_train.run
    return start(task, run, config, name)
