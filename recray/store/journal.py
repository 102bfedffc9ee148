"""The journal of an application: each promotion, rollback and experiment, oldest first, with who and why.

Where names point and what runs on live traffic follow from it, so history and state cannot disagree. The
file is replaced in one rename: a reader sees all of it or the one before; a digest tells what was not written
like that.
"""

import getpass
import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from recray import folders, storage
from recray.folders import write_whole
from recray.storage import ChangedError, Tag
from recray.store.experiments import Experiment
from recray.store.manifest import DamagedError, StoreError

JOURNAL_FILE = "names.json"
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Move:
    """One change of a name: where it points after it, and how it got there."""

    name: str
    version: int
    action: Literal["promote", "rollback"]
    at: str  # ISO 8601, UTC
    digest: str = ""  # of the version
    by: str = ""  # who
    why: str = ""


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Started:
    """An experiment begins."""

    experiment: Experiment
    at: str
    by: str = ""
    why: str = ""
    action: Literal["start"] = "start"


TurnAction: TypeAlias = Literal["pause", "resume", "stop", "refuse"]
"""``refuse``: the experiment ends, and its last arm does not come back."""


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Turn:
    """What becomes of a running experiment."""

    experiment: str
    action: TurnAction
    at: str
    by: str = ""
    why: str = ""


Entry: TypeAlias = Move | Started | Turn


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class _Journal:
    moves: list[Annotated[Entry, Field(discriminator="action")]]
    sha256: str = ""  # of the moves; journals of before 0.9 have none


_FORMAT = TypeAdapter(_Journal)


def read_journal(folder: Path) -> list[Entry]:
    """All entries of an application, oldest first; empty where there is none.

    Raises:
        DamagedError: the file cannot be read, or does not hold entries.
    """
    path = folder / JOURNAL_FILE
    storage.refresh(path)
    try:
        journal = _FORMAT.validate_json(path.read_bytes())
        if journal.sha256 not in ("", _sha256(journal.moves)):
            raise ValueError("it is not what was written")
        return journal.moves
    except FileNotFoundError:
        return []
    except Exception as error:  # whatever the bytes hold, they are no entries
        raise damaged(folder, error) from error


State: TypeAlias = tuple[int, int, int] | Tag
"""Inode, size and time of a file: it is replaced and never changed, so that the same say the same."""


def state_of(folder: Path) -> State | None:
    """Of an application's journal as it is now; None where there is none."""
    path = folder / JOURNAL_FILE
    if storage.key_of(path):
        return storage.if_there(lambda: storage.tag_of(path), lambda: _state_here(path))
    return _state_here(path)


def _state_here(path: Path) -> State | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def damaged(folder: Path, why: object) -> DamagedError:
    if isinstance(why, ValidationError):
        first = why.errors(include_url=False, include_input=False, include_context=False)[0]
        why = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
    said = " ".join(ascii(str(why))[1:-1].split())[:200]  # whatever bytes are in it, they are shown as text
    return DamagedError(
        f"{folder / JOURNAL_FILE}: damaged ({said}): put a copy of it back; or move it away, and what is to "
        f"be served is said again by `recray promote {folder.name} VERSION`"
    )


def write_journal(folder: Path, entries: list[Entry], before: State | None) -> None:
    """Replaces the file in one step. The caller holds ``locked(folder)`` against others of this machine.

    Args:
        before: the state of what the entries were made of.
    Raises:
        StoreError: it could not be read again.
        ChangedError: another machine changed it meanwhile.
        UnreachableError: the home's bucket does not answer.
    """
    journal = _Journal(moves=entries, sha256=_sha256(entries))
    content = _FORMAT.dump_json(journal, indent=1)
    try:
        _FORMAT.validate_json(content)
    except ValidationError as error:
        raise StoreError(f"this cannot be kept: {error.errors()[0]['msg']}") from None
    path = folder / JOURNAL_FILE
    if not storage.key_of(path):
        write_whole(path, content)
    elif before is None or isinstance(before, Tag):
        storage.replace(path, content, before)
    else:
        storage.require_there()
        raise ChangedError(f"{path} was read in the cache, and the bucket is there again")


def _sha256(entries: list[Entry]) -> str:
    return hashlib.sha256(_FORMAT.dump_json(_Journal(moves=entries))).hexdigest()


def locked(folder: Path) -> AbstractContextManager[None]:
    """Holds an application's folder against other publishers and promoters, in any process."""
    return folders.locked(folder / ".lock")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def unix_seconds(at: str) -> float:
    """
    Raises:
        ValueError: it is no moment.
    """
    return datetime.fromisoformat(at).timestamp()


def whoever() -> str:
    """The user of this process, for journals."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # of a container that knows no users
        return ""
