"""What a training loop is given by whoever launched it. The loop itself does not know Ray."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from recray.config import ConfigError


class Progress(NamedTuple):
    """Where a run is; shown by the launcher, at most a few times a second."""

    step: int  # optimizer steps done, over the whole run
    total_steps: int
    epoch: int
    loss: float
    samples_per_s: float  # over all workers


def _ignore_report(metrics: dict[str, float], checkpoint: Path | None) -> None:
    return None


def _ignore_progress(progress: Progress) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """Where a run happens and on how many workers; read by ``recray.launch``."""

    where: Literal["ray", "local"] = "ray"
    """ray: Ray Train workers. local: this process, one worker."""
    workers: int = 2
    """Ray Train workers; ignored locally."""
    gpu: bool = False
    """One GPU for each worker."""
    cpus_per_worker: int = 1
    """Cores that Ray reserves for each worker, and threads that it uses."""
    run: str = ""
    """Name of the run; a run of this name that was interrupted is continued. Empty: a new name."""
    max_failures: int = 3
    """Times that a run is taken up again after workers died."""
    keep: int = 2
    """Checkpoints that stay on disk: so many of the best, and always the last."""

    def __post_init__(self) -> None:
        for name in ("workers", "cpus_per_worker", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"launch.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Context:
    """One worker's view of a run."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a device is immutable
    resume_from: Path | None = None
    """Folder of the checkpoint to continue from; None starts afresh."""
    start_from: Path | None = None
    """Folder of another run's checkpoint, whose weights and optimizers this run begins with."""
    report: Callable[[dict[str, float], Path | None], None] = _ignore_report
    """(metrics already reduced over workers, checkpoint folder or None). Every rank calls it at the
    same points; the caller may delete the folder afterwards. The launcher keeps the last checkpoint
    and those with the highest ``score`` among their metrics."""
    progress: Callable[[Progress], None] = _ignore_progress
