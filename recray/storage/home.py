"""Which paths of this machine stand for objects of the bucket."""

from pathlib import Path
from typing import TYPE_CHECKING

from recray import paths
from recray.storage.bucket import require_obstore

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

FOLDERS = ("datasets", "runs", "store", "feedback")
"""Of the home; what else is written there (logs of events, environments, raw files) stays on its machine."""


def key_of(path: Path) -> str | None:
    """The name of its object in the bucket; None: it is kept on this machine alone."""
    if not paths.address():
        return None
    home, path = paths.home(), path.absolute()
    if not path.is_relative_to(home):
        return None
    inside = path.relative_to(home)
    return inside.as_posix() if inside.parts[:1] and inside.parts[0] in FOLDERS else None


def file_system(path: Path) -> "tuple[FileSystem | None, str]":
    """Where a library that writes through PyArrow finds what stands for a path; None: on this machine."""
    if (key := key_of(path)) is None:
        return None, str(path)
    require_obstore()
    from recray.storage.arrow import opened  # two packages that only few need

    return opened(key)
