"""Movable names of versions, and the lock under which one application's folder changes.

``names.json`` holds the moves, oldest first; where each name points follows from them, so history
and state cannot disagree. The file is replaced in one rename: a reader sees all of it or the one before.
"""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from recray import folders
from recray.config import nearest
from recray.folders import write_whole
from recray.store.manifest import DamagedError, StoreError

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
    """Every move of an application's names, oldest first; empty where none was made.

    Raises:
        DamagedError: the file cannot be read, or does not hold moves that can follow each other.
    """
    path = folder / NAMES_FILE
    try:
        moves = [Move(**move) for move in json.loads(path.read_bytes())["moves"]]
        stacks(moves)
        if not all(isinstance(move.version, int) for move in moves):
            raise TypeError("a version is no number")
    except FileNotFoundError:
        return []
    except Exception as error:  # whatever the bytes hold, they are no moves
        raise DamagedError(f"{path}: damaged ({error}); promote again after moving it away") from error
    return moves


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
    write_whole(folder / NAMES_FILE, content)


def locked(folder: Path) -> AbstractContextManager[None]:
    """Holds an application's folder against other publishers and promoters, in any process."""
    return folders.locked(folder / ".lock")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
