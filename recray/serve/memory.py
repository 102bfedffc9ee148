"""Whether a version fits into memory beside what serves already, and beside others that load just now."""

import contextlib
import fcntl
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recray.config import ConfigError
from recray.folders import locked
from recray.serve.versions import ServedBundles

TIMES_ITS_FILES = 3  # what a version takes in memory, the copies of a load included
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_LOCK = "lock"

log = logging.getLogger(__name__)


def available_bytes() -> int | None:
    """What this process may still take: of the machine and of its control group; None where neither says."""
    found = []
    with contextlib.suppress(OSError, StopIteration, ValueError):
        line = next(li for li in _MEMINFO.read_text().splitlines() if li.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, StopIteration, ValueError):  # "max": no limit
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        # Files that were read are counted as used, and given back when memory is wanted.
        stats = (_CGROUP / "memory.stat").read_text().splitlines()
        cached = next(int(li.split()[1]) for li in stats if li.startswith("inactive_file "))
        found.append(limit - used + cached)
    return min(found, default=None)


@contextmanager
def memory_for(bundles: ServedBundles, *, must_fit: bool = True) -> Iterator[None]:
    """While a version is loaded within: what it takes counts as taken for all others that begin to load, in
    this process and in other replicas on this machine. What it has taken by then counts twice: rather one
    load too few at a time than one too many.

    Args:
        must_fit: False: it is claimed, and not asked whether it is there.
    Raises:
        ConfigError: there is no room for it.
    """
    needed = TIMES_ITS_FILES * sum(
        file.size_bytes for bundle in bundles.by_role.values() for file in bundle.manifest.files.values()
    )
    with contextlib.ExitStack() as claims:
        try:
            claimed = claims.enter_context(_claim(needed))
        except OSError as error:  # a full disk: to serve goes before
            log.warning("whether other versions are loading is not known: %s", error)
            claimed = 0
        if must_fit:
            _require(bundles, needed, claimed)
        yield


def _require(bundles: ServedBundles, needed: int, claimed: int) -> None:
    available = available_bytes()
    if available is None or needed <= available - claimed:
        return
    raise ConfigError(
        f"{bundles.reference} needs about {_mib(needed)} beside what serves, and "
        f"{_mib(max(available, 0))} are left"
        + (f", of which versions that are loading take {_mib(claimed)}" if claimed else "")
        + ": give the replica more, or serve smaller tables"
    )


@contextmanager
def _claim(size_bytes: int) -> Iterator[int]:
    """Bytes that others have claimed before. A claim is an empty file that its holder keeps locked: whoever
    dies gives it back."""
    folder = Path(tempfile.gettempdir()) / f"recray-loads-{os.getuid()}"
    own = folder / f"{size_bytes}-{secrets.token_hex(8)}"
    with locked(folder / _LOCK):
        others = _claimed(folder)
        stream = own.open("w")
        fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield others
    finally:
        own.unlink(missing_ok=True)
        stream.close()


def _claimed(folder: Path) -> int:
    claimed = 0
    for file in folder.iterdir():
        if file.name == _LOCK:
            continue
        with contextlib.suppress(FileNotFoundError), file.open() as stream:  # done meanwhile
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                file.unlink()  # its holder is dead
            except BlockingIOError:
                claimed += int(file.name.partition("-")[0])
    return claimed


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
