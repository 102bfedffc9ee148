"""Raw files on disk: where they are looked for, and how one state of a file is told from another."""

from pathlib import Path
from typing import Any

from recray import paths
from recray.data.sources.files.locations import state_of
from recray.schema import DataError


def find_raw(file_name: str) -> Path | None:
    """The file in the first raw folder that has it."""
    return next((d / file_name for d in paths.raw_dirs() if (d / file_name).is_file()), None)


def find_raw_folder(name: str) -> Path | None:
    """The same of a folder."""
    return next((d / name for d in paths.raw_dirs() if (d / name).is_dir()), None)


def where_to_put(file_name: str) -> str:
    folders = " or ".join(dict.fromkeys(str(d) for d in paths.raw_dirs()))
    return f"put {file_name} into {folders}, or name its folder in RECRAY_RAW_DIR"


def fingerprint(path: Path) -> dict[str, Any]:
    """Tells one state of a raw file from another without reading it.

    Raises:
        DataError: there is no such file, or it is empty.
    """
    require_file(path)
    stat = path.stat()
    return state_of(str(path.absolute()), stat.st_size, stat.st_mtime_ns)


def require_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path} is a folder: name a file in it")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes): fetch it again")
