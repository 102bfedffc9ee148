"""What a search may change: the files of ``tune_spaces/``, one a model, checked against the model's run."""

import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import recray
from recray.config import Config, ConfigError, nearest, override, value_at
from recray.launch.tune_domains import Choice, Range, is_domain, range_of
from recray.typed_values import plain

Method = Literal["tpe", "random", "pbt"]
FOLDER = "tune_spaces"


class Goal(NamedTuple):
    """A metric of the validation part, and which way is better."""

    metric: str
    mode: Literal["max", "min"] = "max"

    def __str__(self) -> str:
        return f"validation {self.metric.removeprefix('validation ')}"

    def sign(self) -> float:
        """What a value is multiplied by so that more is better."""
        return 1.0 if self.mode == "max" else -1.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a search takes where the command line does not say."""

    trials: int
    grace: int = 3
    """Epochs that every trial gets before it can be stopped."""
    method: Method = "tpe"
    mutable: tuple[str, ...] = ()
    """Paths that population based training may change while a trial goes on: no shapes."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """What a search of one model may change, and by what it is judged."""

    settings: Mapping[str, Any]
    """Dotted path of the run -> a domain of ray.tune, or a value that holds for all trials."""
    goal: Goal
    budget: Budget
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Dotted path -> why it is left as the preset has it."""

    def domains(self) -> dict[str, Any]:
        return {path: value for path, value in self.settings.items() if is_domain(value)}

    def ranges(self) -> dict[str, Range]:
        return {path: range_of(path, domain) for path, domain in self.domains().items()}

    def fixed(self) -> dict[str, Any]:
        """What holds for all trials."""
        return {path: value for path, value in self.settings.items() if not is_domain(value)}

    def words(self) -> dict[str, str]:
        """The whole space, as it is printed and kept."""
        ranges = self.ranges()
        return {
            path: str(ranges[path]) if path in ranges else f"always {plain(value)}"
            for path, value in self.settings.items()
        }

    def require_fits(self, run: Config) -> None:
        """
        Raises:
            ConfigError: a path names no setting of the run, or a value does not fit there.
        """
        for path in self.ignored:
            value_at(run, path)
        run = override(run, self.fixed())
        for path, found in self.ranges().items():
            value_at(run, path)
            for value in found.values if isinstance(found, Choice) else found.ends():
                override(run, {path: value})
        for path in self.budget.mutable:
            if path not in self.domains():
                raise ConfigError(f"the space lets {path!r} change on the way{nearest(path, self.domains())}")


def spaces() -> list[str]:
    """Names of the models that have a space."""
    return sorted(path.stem for path in _folder().glob("*.py"))


def open_space(model: str, file: Path | None = None) -> Space:
    """
    Args:
        file: of another space than the model's own.

    Raises:
        ConfigError: there is none, or its file lacks something.
    """
    if file is None and model not in (known := spaces()):
        raise ConfigError(
            f"no space to search for {model!r}{nearest(model, known)}. Write one, a file with SPACE, GOAL "
            f"and BUDGET such as {_folder() / 'two_tower.py'}, and name it by --space"
        )
    file = file or _folder() / f"{model}.py"
    if not file.is_file():
        raise ConfigError(f"space {file}: there is no such file")
    said = runpy.run_path(str(file))
    if missing := [name for name in ("SPACE", "GOAL", "BUDGET") if name not in said]:
        raise ConfigError(f"{file} says no {' and no '.join(missing)}")
    ignored = said.get("IGNORED", {})
    return Space(settings=said["SPACE"], goal=said["GOAL"], budget=said["BUDGET"], ignored=ignored)


def _folder() -> Path:
    """Inside the package where it is installed, beside it in a checkout."""
    package = Path(recray.__file__).parent
    return next(folder for folder in (package / FOLDER, package.parent / FOLDER) if folder.is_dir())
