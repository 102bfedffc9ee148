"""Launchers give the one training loop its context: this process, or Ray Train workers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from recray import paths, storage
from recray.config import Config
from recray.launch import local
from recray.launch.runs import RunResult, Task, claim, run_name
from recray.track.record import CURVES, RunFolder
from recray.track.recording import Recording, notices, recording
from recray.train.context import Communicator, LaunchConfig
from recray.train.loop import LoopConfig

__all__ = ["RunResult", "Task", "draw_curves", "launch", "place", "recorded", "run_name"]

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Config)


def launch(
    task: Task[R],
    run: R,
    config: LaunchConfig,
    title: str,
    *,
    communicator: Communicator = "torch",
) -> RunResult:
    """Runs ``task(run, context)`` where the config says, and waits for it.

    ``communicator`` is what joins several workers: PyTorch's process group, or XGBoost's.

    Raises:
        ConfigError: a bad name, or an earlier run under it had other settings.
    """
    with recorded(run, config, title) as record:
        log.info("run %s starts %s", record.name, place(config))
        if config.where == "local":
            return local.run(task, run, config, record.name)
        from recray.launch import ray_train  # Ray takes a second to import, and a local run does without

        return ray_train.run(task, run, config, record.name, communicator=communicator)


@contextmanager
def recorded(run: Config, config: LaunchConfig, title: str, *, notify: bool = False) -> Iterator[Recording]:
    """A run under its name, told to the trackers of ``config`` for as long as it lasts.

    What happens within may launch it, which adds nothing, and say more of its end.

    Args:
        notify: also tell the people whom RECRAY_NOTIFY names.

    Raises:
        ConfigError: a bad name, or an earlier run under it had other settings.
    """
    told = (*config.track, *(notices() if notify else ()))
    name = run_name(config, title)
    claim(name, run, config.where, title)
    with recording(RunFolder(paths.runs_dir() / name), told, config.track_wait_s) as record:
        yield record


def place(config: LaunchConfig) -> str:
    """Where a run happens, for a person."""
    return "in this process" if config.where == "local" else f"on {config.workers} Ray workers"


def draw_curves(done: RunResult, loop: LoopConfig) -> None:
    """The learning curve of a run that has epochs, beside its checkpoints."""
    from recray.track.curves import plot_curves  # matplotlib is slow to import, and workers import this file

    path = paths.runs_dir() / done.name / CURVES
    plot_curves({done.name: [done.history()]}, path, loop.metric, goal=loop.goal)
    storage.send(path)
    log.info("learning curve: %s", path)
