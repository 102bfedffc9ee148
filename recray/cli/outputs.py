"""Where the files that a job writes are found again."""

import json
import os
from pathlib import Path

from recray import paths
from recray.data.sources.files.locations import lasting_place

ABOUT_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray tells the process of a submitted job of itself


def output(path: Path) -> Path:
    """The same path, but a relative one of a submitted job goes under ``<runs>/<submission>/``: its working
    directory is Ray's, and is lost with it.
    """
    here = f"{Path.cwd()}/"
    if path.is_absolute() or lasting_place(here) == here:
        return path
    about: dict[str, str] = json.loads(os.environ.get(ABOUT_JOB, "{}")).get("metadata", {})
    kept = paths.runs_dir() / about.get("job_submission_id", "submitted") / path
    kept.parent.mkdir(parents=True, exist_ok=True)
    return kept
