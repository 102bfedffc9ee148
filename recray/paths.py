"""Where things live: one home folder, and the folders in which raw files are looked for.

``RECRAY_HOME`` (default ``~/.recray``) holds data sets, runs, the store and logs of events; on a cluster
it must be storage that every node sees. ``RECRAY_RAW_DIR`` names the folder of raw downloads.
"""

import os
from pathlib import Path

from recray.config import ConfigError


def home() -> Path:
    """
    Raises:
        ConfigError: RECRAY_HOME is an address, which would become a folder of that name.
    """
    named = os.environ.get("RECRAY_HOME", "")
    if "://" in named:
        raise ConfigError(
            f"RECRAY_HOME is {named!r}: it must be a folder that every node sees, such as NFS or a bucket "
            "that is mounted; of addresses only data can be read"
        )
    return Path(named or Path.home() / ".recray").expanduser().absolute()


def datasets_dir() -> Path:
    return home() / "datasets"


def runs_dir() -> Path:
    return home() / "runs"


def store_dir() -> Path:
    return home() / "store"


def events_dir(store: Path | None = None) -> Path:
    """Of the logs of what the applications of a store show and are told; None: of the store that is there."""
    return (store or store_dir()).parent / "events"


def feedback_dir() -> Path:
    return home() / "feedback"


def raw_dirs() -> list[Path]:
    """Folders searched for raw files, first match wins; the last one is where downloads go."""
    named = os.environ.get("RECRAY_RAW_DIR")
    beside = Path(__file__).absolute().parents[2] / "shared" / "data"
    found = [Path(named).expanduser().absolute()] if named else []
    return [*found, *([beside] if beside.is_dir() else []), home() / "raw"]
