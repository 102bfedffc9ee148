"""What made a version: the machine, the code and the libraries that decide its last bits."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import recray

LIBRARIES = ("torch", "ray", "numpy", "xgboost", "torchrec", "torch-geometric", "numba")


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


@functools.cache
def code() -> str:
    """Version of recray, and the commit where it runs from a checkout; "+" where files differ from it."""
    folder = Path(recray.__file__).parents[1]
    if not (folder / ".git").exists():
        return recray.__version__
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return f"{recray.__version__} {asked.stdout.strip()}".strip()


def libraries() -> dict[str, str]:
    """Installed versions, without those that are not there."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
