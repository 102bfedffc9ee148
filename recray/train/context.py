"""What a training loop is given by whoever launched it. The loop itself does not know Ray."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import torch

from recray.config import ConfigError
from recray.track.reporters import require

TRACK, PRICE = "RECRAY_TRACK", "RECRAY_PRICE_PER_HOUR"

Communicator: TypeAlias = Literal["torch", "xgboost"]
"""What joins several workers: PyTorch's process group, or XGBoost's own."""


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


def _ignore_trained(samples: int, seconds: float) -> None:
    return None


def _trackers_from_environment() -> tuple[str, ...]:
    return tuple(name.strip() for name in os.environ.get(TRACK, "").split(",") if name.strip())


def _price_from_environment() -> float:
    said = os.environ.get(PRICE, "") or "0"
    try:
        return float(said)
    except ValueError:
        raise ConfigError(f"{PRICE} is {said!r}: give dollars an hour, such as 2.5") from None


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """Where a run happens and on how many workers; read by ``recray.launch``."""

    where: Literal["ray", "local"] = "ray"
    """ray: Ray Train workers. local: this process, one worker."""
    workers: int = 2
    """Ray Train workers; ignored locally."""
    gpu: bool = False
    """One GPU for each worker."""
    gpu_share: float = 1.0
    """Part of a GPU for a run of one worker, where several runs are to share it."""
    cpus_per_worker: int = 1
    """Cores that Ray reserves for each worker, and threads that it uses."""
    run: str = ""
    """Name of the run; a run of this name that was interrupted is continued. Empty: a new name."""
    max_failures: int = 3
    """Times that a run is taken up again after workers died."""
    min_workers: int = 0
    """Fewest Ray Train workers that a run goes on with when nodes are lost, and begins with; it grows up to
    ``workers`` as nodes come. 0: all of them, always."""
    resize_s: float = 60.0
    """Seconds between looks for nodes that have come, where ``min_workers`` is given."""
    wait_s: float = 600.0
    """Seconds that nodes which are lost, in use, or brought by an autoscaler are waited for."""
    memory_gib: float = 0.0
    """Memory that Ray reserves for each worker; 0: none."""
    accelerator: str = ""
    """Kind of GPU that each worker's node must have, as Ray calls it: H100, A100, T4."""
    labels: tuple[str, ...] = ()
    """Labels that each worker's node must have, as key=value."""
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """Workers on few nodes or on many; STRICT: on one, or no two on one."""
    keep: int = 2
    """Checkpoints that stay on disk: so many of the best, and always the last."""

    track: tuple[str, ...] = field(default_factory=_trackers_from_environment)
    """Trackers besides the run's folder: wandb, tensorboard, mlflow. Or RECRAY_TRACK=wandb,tensorboard."""
    track_wait_s: float = 120.0
    """Seconds that trackers are waited for once the run is over, at most."""
    price_per_hour: float = field(default_factory=_price_from_environment)
    """Dollars for all machines of the run together, so that it knows its cost; 0: not known. Or
    RECRAY_PRICE_PER_HOUR."""

    def __post_init__(self) -> None:
        require(self.track)
        for name in ("track_wait_s", "price_per_hour", "wait_s", "resize_s", "memory_gib"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"launch.{name} must be a number from 0 on, got {getattr(self, name)}")
        for name in ("workers", "cpus_per_worker", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"launch.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.min_workers <= self.workers:
            raise ConfigError(
                f"launch.min_workers must be from 0 to launch.workers, {self.workers}; got {self.min_workers}"
            )
        if not 0 < self.gpu_share <= 1 or (self.gpu_share < 1 and self.workers > 1):
            raise ConfigError(
                "launch.gpu_share is a part of one GPU, for a run of one worker (NCCL joins whole GPUs); "
                f"got {self.gpu_share:g} with {self.workers} workers"
            )
        if wrong := [label for label in self.labels if not all(label.partition("="))]:
            raise ConfigError(f"launch.labels are key=value, such as market-type=spot; got {wrong[0]!r}")

    @property
    def least(self) -> int:
        """Workers without which the run waits."""
        return self.min_workers or self.workers

    @property
    def label_selector(self) -> dict[str, str]:
        return {key: value for key, _, value in (label.partition("=") for label in self.labels)}


def _stays() -> bool:
    return False


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
    trained: Callable[[int, float], None] = _ignore_trained
    """(samples over all workers, seconds spent on them) that the next report is about: measured, so no part
    of the report, which an equal run repeats bit for bit."""
    is_leaving: Callable[[], bool] = _stays
    """Whether a worker's machine is about to be taken away: every rank asks at the same points, which takes
    some milliseconds, and all hear the same."""
