"""What launchers share: the work of a run, its name, what it was started as, and what it leaves behind."""

import re
import secrets
import time
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from recray import paths
from recray.config import Config, ConfigError, settings
from recray.redaction import hidden_within
from recray.track import history
from recray.track.record import RunFolder
from recray.train.context import Context, LaunchConfig

R = TypeVar("R", contravariant=True)


class Task(Protocol[R]):
    """Work for every worker; must report at least one checkpoint."""

    def __call__(self, run: R, context: Context, /) -> object: ...


class RunResult(NamedTuple):
    """What a finished run leaves behind: its best checkpoint (the last where none has a score)."""

    name: str
    checkpoint: Path
    metrics: dict[str, float]

    def history(self) -> list[dict[str, float]]:
        """All that it reported, oldest first."""
        return history.read(paths.runs_dir() / self.name)


def run_name(config: LaunchConfig, title: str) -> str:
    """The run's name: the one asked for, else a new one that no other run has."""
    return (
        config.run
        or f"{re.sub('[^A-Za-z0-9._-]+', '-', title)}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    )


def claim(name: str, run: Config, where: str, title: str) -> None:
    """Notes what a run is in its folder; one of this name that got somewhere as something else is refused.

    Raises:
        ConfigError: a bad name, or an earlier run under it had other settings.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"launch.run {name!r} cannot name a run: use letters, digits, '.', '_' and '-'")
    noted = RunFolder(paths.runs_dir() / name)
    current = {**hidden_within(settings(run, elastic=False)), "launch.where": where, "what": title}
    earlier = noted.settings()
    if earlier and noted.has_checkpoints():
        changed = [
            f"{key} was {earlier.get(key)}, now {current.get(key)}"
            for key in sorted(earlier.keys() | current.keys())
            if earlier.get(key) != current.get(key)
        ]
        if changed:
            raise ConfigError(
                f"run {name!r} was started with other settings ({'; '.join(changed)}): "
                "continue it with its own, or choose another launch.run"
            )
        return
    noted.note_settings(current)
