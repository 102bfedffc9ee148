"""Whether a version fits into memory beside what serves already."""

import contextlib
from pathlib import Path

from recray.config import ConfigError
from recray.serve.versions import ServedBundles

TIMES_ITS_FILES = 3  # what a version takes in memory, the copies of a load included
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


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


def require_memory(bundles: ServedBundles) -> None:
    """
    Raises:
        ConfigError: there is no room for it.
    """
    on_disk = sum(e.size_bytes for b in bundles.by_role.values() for e in b.manifest.files.values())
    needed, available = TIMES_ITS_FILES * on_disk, available_bytes()
    if available is not None and needed > available:
        raise ConfigError(
            f"{bundles.reference} needs about {needed / 2**20:,.0f} MiB beside what serves, and "
            f"{max(available, 0) / 2**20:,.0f} MiB are left: give the replica more, or serve smaller tables"
        )
