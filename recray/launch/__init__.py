"""Launchers give the one training loop its context: this process, or Ray Train workers."""

import dataclasses
import json
import logging
import re
import secrets
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from recray import paths
from recray.config import ELASTIC, ConfigError
from recray.track import history
from recray.train.context import Context, LaunchConfig

log = logging.getLogger(__name__)


class Task(Protocol):
    """Work for every worker; must report at least one checkpoint."""

    def __call__(self, run: Any, context: Context, /) -> object: ...


class RunResult(NamedTuple):
    """What a finished run leaves behind: its best checkpoint (the last where none has a score)."""

    name: str
    checkpoint: Path
    metrics: dict[str, float]


def run_name(config: LaunchConfig, title: str) -> str:
    """The run's name: the one asked for, else a new one that no other run has."""
    return config.run or f"{title}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def _claim(name: str, run: Any, where: str) -> None:
    """Notes what a run is in its folder; one of this name that got somewhere as something else is refused.

    Raises:
        ConfigError: a bad name, or an earlier run under it had other settings.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"launch.run {name!r} cannot name a run: use letters, digits, '.', '_' and '-'")
    path = paths.runs_dir() / name / "run.json"
    settings = {**_settings(run), "launch.where": where}
    earlier = _read(path)
    if earlier and any(path.parent.glob("checkpoint_*")):
        changed = [
            f"{key} was {earlier.get(key)}, now {settings.get(key)}"
            for key in sorted(earlier.keys() | settings.keys())
            if earlier.get(key) != settings.get(key)
        ]
        if changed:
            raise ConfigError(
                f"run {name!r} was started with other settings ({'; '.join(changed)}): "
                "continue it with its own, or choose another launch.run"
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".new")
    staged.write_text(json.dumps(settings, indent=1))
    staged.replace(path)


def _read(path: Path) -> dict[str, str]:
    """The settings that a run was started with; none where it never was, or was cut off in noting them."""
    try:
        settings: dict[str, str] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return settings


def _settings(run: Any, prefix: str = "") -> dict[str, str]:
    """Every setting of a run by its dotted path, but those that may change while it is interrupted."""
    if not dataclasses.is_dataclass(run):
        return {prefix or "task": repr(run)}
    found: dict[str, str] = {}
    if hasattr(run, "lasting"):
        found |= {f"{prefix}.{name}": repr(value) for name, value in run.lasting().items()}
    for field in dataclasses.fields(run):
        if field.metadata.get(ELASTIC):
            continue
        path = f"{prefix}.{field.name}" if prefix else field.name
        found |= _settings(getattr(run, field.name), path)
    return found


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
    _claim(name, run, config.where)
    where = "in this process" if config.where == "local" else f"on {config.workers} Ray workers"
    log.info("run %s starts %s", name, where)
    if config.where == "local":
        from recray.launch import local

        result = local.run(task, run, config, name)
    else:
        from recray.launch import ray_train

        start = ray_train.run_boosted if communicator == "xgboost" else ray_train.run
        result = start(task, run, config, name)
    _draw_curves(name, getattr(run, "loop", None))
    return result


def _draw_curves(name: str, loop: Any) -> None:
    """The learning curve of a run that has epochs, beside its checkpoints."""
    if not hasattr(loop, "metric"):
        return
    from recray.track.curves import plot_curves  # matplotlib is slow to import, and workers import this file

    folder = paths.runs_dir() / name
    plot_curves({name: [history.read(folder)]}, folder / "curves.png", loop.metric, goal=loop.goal)
    log.info("learning curve: %s", folder / "curves.png")
