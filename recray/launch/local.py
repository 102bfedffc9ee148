"""One worker in this process: the parity baseline of every Ray run, and the way without Ray."""

import json
import math
import shutil
from pathlib import Path
from typing import TypeVar

import torch

from recray import paths
from recray.config import ConfigError
from recray.folders import fetch, put, remove
from recray.launch.runs import RunResult, Task
from recray.storage import names_in
from recray.track import history
from recray.track.console import ConsoleProgress
from recray.track.usage import Usage
from recray.train.context import Context, LaunchConfig

R = TypeVar("R")
METRICS = "metrics.json"  # what a checkpoint was reported with


class _Keeper:
    """Keeps the last checkpoint and the ``keep`` best under ``<runs>/<name>/``; a rename is the commit."""

    def __init__(self, folder: Path, keep: int, usage: Usage) -> None:
        self.folder, self.keep, self.usage = folder, keep, usage
        folder.mkdir(parents=True, exist_ok=True)
        for name in names_in(folder):  # those that only the home's bucket has
            if name.startswith("checkpoint_"):
                fetch(folder / name)

    def checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint_*"))

    def best_first(self) -> list[Path]:
        """Checkpoints by score; those without one come last, newest first."""
        return sorted(self.checkpoints(), key=lambda path: (_score(path), path.name), reverse=True)

    def __call__(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        history.append(self.folder, {**metrics, **self.usage.take()})
        if checkpoint is None:
            return
        number = int(self.checkpoints()[-1].name.split("_")[1]) + 1 if self.checkpoints() else 0
        staged = self.folder / f".checkpoint_{number:06d}"
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(checkpoint, staged)
        (staged / METRICS).write_text(json.dumps(metrics))
        put(staged, self.folder / f"checkpoint_{number:06d}")
        for old in set(self.checkpoints()[:-1]) - set(self.best_first()[: self.keep]):
            remove(old)

    def last_metrics(self) -> dict[str, float]:
        return history.read(self.folder)[-1]


def run(task: Task[R], config: R, launch: LaunchConfig, name: str) -> RunResult:
    """Runs the task here, resuming a run of this name.

    Raises:
        ConfigError: a GPU is asked for and there is none, or the task kept no checkpoint.
    """
    if launch.gpu and not torch.cuda.is_available():
        raise ConfigError("launch.gpu asks for a GPU, and PyTorch sees none: see `recray doctor`")
    folder, device = paths.runs_dir() / name, torch.device("cuda" if launch.gpu else "cpu")
    usage = Usage(folder, device, launch.price_per_hour)
    keeper = _Keeper(folder, launch.keep, usage)
    earlier = keeper.checkpoints()
    context = Context(
        device=device,
        resume_from=earlier[-1] if earlier else None,
        report=keeper,
        progress=ConsoleProgress(name),
        trained=usage.trained,
    )
    task(config, context)
    if not keeper.checkpoints():
        raise ConfigError(f"run {name!r} ended without a checkpoint")
    return RunResult(name, keeper.best_first()[0], keeper.last_metrics())


def _score(checkpoint: Path) -> float:
    value: float = json.loads((checkpoint / METRICS).read_text()).get("score", -math.inf)
    return value
