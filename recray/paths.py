"""Where things live: one home folder, and the folders in which raw files are looked for.

``RECRAY_HOME`` (default ``~/.recray``) holds data sets, runs, the store and logs of events; on a cluster
it must be storage that every node sees: a shared folder, or a bucket (``s3://bucket/prefix``, ``gs://``), of
which each machine keeps a cache in ``RECRAY_CACHE``. ``RECRAY_RAW_DIR`` names the folder of raw downloads.
"""

import hashlib
import os
import re
from pathlib import Path

from recray.config import ConfigError
from recray.redaction import hidden

LAUNCHED = Path("~/ray_bootstrap_config.yaml")  # what `ray up` leaves on a cluster's head
_ADDRESS = re.compile(r"(s3|gs)://[a-z0-9][a-z0-9._-]+(/[^?#@]*)?")


def home() -> Path:
    """The folder itself; where it is a bucket, this machine's cache of it.

    Raises:
        ConfigError: as ``address``.
    """
    if where := address():
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")  # another server's bucket of that name is another
        digest = hashlib.sha256(f"{where} {endpoint}".encode()).hexdigest()[:8]
        cache = Path(os.environ.get("RECRAY_CACHE") or Path.home() / ".recray" / "cache")
        return cache.expanduser().absolute() / digest
    return Path(os.environ.get("RECRAY_HOME") or Path.home() / ".recray").expanduser().absolute()


def address() -> str:
    """``s3://bucket/prefix`` where RECRAY_HOME is one, without a slash at its end; else empty.

    Raises:
        ConfigError: it is an address of another kind.
    """
    named = os.environ.get("RECRAY_HOME", "").rstrip("/")
    if "://" not in named:
        return ""
    if not _ADDRESS.fullmatch(named):
        raise ConfigError(
            f"RECRAY_HOME is {hidden(named)!r}: it must be a folder that every node sees, s3://bucket/prefix "
            "or gs://bucket/prefix; credentials and options go into the environment"
        )
    return named


def datasets_dir() -> Path:
    return home() / "datasets"


def runs_dir() -> Path:
    return home() / "runs"


def store_dir() -> Path:
    return home() / "store"


def mapped_dir() -> Path:
    """Of files that processes of one machine look into together; made again where they are gone."""
    return home() / "mapped"


def events_dir(store: Path | None = None) -> Path:
    """Of the logs of what the applications of a store show and are told; None: of the store that is there."""
    return (store or store_dir()).parent / "events"


def feedback_dir() -> Path:
    return home() / "feedback"


def clusters_dir() -> Path:
    """Of what was made at a provider: a machine's own, also where the home is a bucket or a pod's volume."""
    alone = bool(address() or os.environ.get("RUNPOD_POD_ID"))
    return (Path.home() / ".recray" if alone else home()) / "clusters"


def raw_dirs() -> list[Path]:
    """Folders searched for raw files, first match wins; the last one is where downloads go."""
    named = os.environ.get("RECRAY_RAW_DIR")
    beside = Path(__file__).absolute().parents[2] / "shared" / "data"
    found = [Path(named).expanduser().absolute()] if named else []
    return [*found, *([beside] if beside.is_dir() else []), home() / "raw"]
