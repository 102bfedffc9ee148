"""A run as a file that can be committed: what a search writes and every training job takes as its first word.

{"recipe": "two_tower", "settings": {...the whole run...}, "found": {...how it was found...}}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from recray.config import Config, ConfigError, from_dict, to_dict
from recray.folders import write_whole
from recray.recipes import run_for
from recray.redaction import hidden_within
from recray.train.run import AnyRecipe, Run
from recray.typed_values import plain

C = TypeVar("C", bound=Config)


def write_run(path: Path, recipe: str, run: Config, found: Mapping[str, Any]) -> None:
    """Without secrets, as it is made to be committed.

    Args:
        found: how it came about; for people.
    """
    content = {"recipe": recipe, "settings": to_dict(run), "found": plain(found)}
    write_whole(path, (json.dumps(hidden_within(content), indent=1) + "\n").encode())


def read_run(path: Path, recipe: str, kind: type[C]) -> C:
    """
    Raises:
        ConfigError: there is no such file, it holds no run, or one of another recipe.
    """
    if not path.is_file():
        raise ConfigError(f"no run file {path}: `recray tune` writes one, best.json in its folder")
    try:
        said = json.loads(path.read_text())
        made_by, settings = said["recipe"], said["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f'{path} is no run file ({type(error).__name__}: {error}): it says {{"recipe": NAME, '
            '"settings": {...}}, as the best.json of a search does'
        ) from error
    if made_by != recipe:
        raise ConfigError(f"{path} is a run of {made_by!r}, not of {recipe!r}: use that recipe's job")
    return from_dict(kind, settings)


def named_run(recipe: AnyRecipe, first: str) -> Run:
    """The run that a job's first word names: a preset, a run file (.json), or a data set.

    Raises:
        ConfigError, DataError: it is none of them, or a run file of another recipe.
    """
    presets: Mapping[str, tuple[str, Run]] = recipe.presets
    if first in presets:
        return presets[first][1]
    if first.endswith(".json"):
        some = next(iter(presets.values()))[1]
        found: Run = read_run(Path(first), recipe.name, type(some))
        return found
    run: Run = run_for(recipe, first)
    return run
