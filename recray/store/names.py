"""Movable names of versions, and the lock under which one application's folder changes.

``names.json`` holds the moves, oldest first; where each name points follows from them, so history
and state cannot disagree. The file is replaced in one rename: a reader sees all of it or the one before.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from recray.config import nearest
from recray.store.manifest import StoreError

NAMES = ("production", "candidate", "shadow")
NAMES_FILE = "names.json"


@dataclass(frozen=True, kw_only=True)
class Move:
    """One change of a name: where it points after it, and how it got there."""

    name: str
    version: int
    action: Literal["promote", "rollback"]
    at: str  # ISO 8601, UTC


def check_name(name: str, also: tuple[str, ...] = ()) -> None:
    """Raises ``StoreError`` naming the nearest name where there is no such one."""
    if name not in (valid := (*NAMES, *also)):
        raise StoreError(f"no version name {name!r}{nearest(name, valid)}")


def read_moves(folder: Path) -> list[Move]:
    """Every move of an application's names, oldest first; empty where none was made."""
    path = folder / NAMES_FILE
    try:
        return [Move(**move) for move in json.loads(path.read_bytes())["moves"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); promote again after moving it away") from error


def stacks(moves: list[Move]) -> dict[str, list[int]]:
    """Versions that each name has stood on and can roll back to; the last one is current."""
    found: dict[str, list[int]] = {}
    for move in moves:
        stack = found.setdefault(move.name, [])
        if move.action == "rollback":
            stack.pop()
        else:
            stack.append(move.version)
    return found


def write_moves(folder: Path, moves: list[Move]) -> None:
    """Replaces the names file in one step. The caller holds ``locked(folder)``."""
    content = json.dumps({"moves": [asdict(move) for move in moves]}, indent=1).encode()
    temporary = folder / f".{NAMES_FILE}"
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, folder / NAMES_FILE)
    fsync_folder(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds an application's folder against other publishers and promoters, in any process.

    Released by the kernel when the holder dies. Readers take no lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def fsync_folder(folder: Path) -> None:
    """Makes renames inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
