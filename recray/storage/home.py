"""Which paths of this machine stand for objects of the bucket."""

from pathlib import Path

from recray import paths

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
