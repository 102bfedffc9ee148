"""Files and folders that appear whole or not at all, whoever is killed and however often they are asked for.

Everything is written beside its target, which one rename then puts in place: readers see all of it or
what was there before. A lock file (released by the system when its holder dies) lets one process write
while others wait, and lets the next one remove what a killed one left behind. Where the home is a bucket,
folders are uploaded before they are put in place, and fetched where they are only there: see ``storage``.
"""

import errno
import fcntl
import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recray import storage
from recray.schema import DataError

log = logging.getLogger(__name__)
_LEAST_FREE_BYTES = 2**16  # with less, whatever failed failed by that


def build_once(
    folder: Path, is_prepared: Callable[[Path], bool], build: Callable[[Path, Path], None]
) -> None:
    """Has ``build(target, scratch)`` fill two empty folders and renames the target to ``folder``.

    Args:
        is_prepared: whether ``folder``, which exists and is not empty, is what is wanted; raises
            where it holds something else.

    Raises:
        DataError: in the place of an ``OSError``: a full disk, a file that may not be read.
    """

    def stands() -> bool:
        return folder.is_dir() and any(folder.iterdir()) and is_prepared(folder)

    try:
        if stands():  # no lock: it appeared whole, and the home may be read-only
            return
        with locked(_lock_of(folder), f"{folder} is being prepared by another process"):
            _fetch(folder)
            if not stands():
                _build(folder, build)
    except OSError as error:  # nothing half-made is left
        where = f" ({error.filename})" if error.filename else ""
        raise DataError(
            f"{folder.name} cannot be prepared in {folder.parent}: {error.strerror or error}{where}: make "
            "room there or let the file be read; RECRAY_HOME names another place"
        ) from error


def _build(folder: Path, build: Callable[[Path, Path], None]) -> None:
    if storage.key_of(folder):  # better now than after an hour
        storage.require_writable()
    _remove_leftovers(folder)
    work = Path(tempfile.mkdtemp(prefix=_work_prefix(folder), dir=folder.parent))
    try:
        target, scratch = work / "dataset", work / "scratch"
        target.mkdir()
        scratch.mkdir()
        with room_in(folder.parent):
            build(target, scratch)
            for path in [*target.rglob("*"), target]:
                fsync(path)
            try:
                put(target, folder)
            except FileExistsError:
                log.info("%s: another machine was faster", folder.name)
                _fetch(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def require_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """
    Raises:
        DataError: a wanted option is another one in the folder's manifest.
    """
    differing = [
        f"{key} is {found.get(key)!r}, wanted {value!r}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    if differing:
        raise DataError(
            f"{folder} holds another data set ({'; '.join(differing)}): delete it or choose another folder"
        )


def digest(options: Mapping[str, Any]) -> str:
    """Eight letters that tell one state of a source's options from another."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]


def _work_prefix(folder: Path) -> str:
    return f".{folder.name}.preparing-"


def _lock_of(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.lock"


def _remove_leftovers(folder: Path) -> None:
    for path in folder.parent.glob(glob.escape(_work_prefix(folder)) + "*"):
        log.info("removing %s, left by a preparation that was interrupted", path)
        shutil.rmtree(path, ignore_errors=True)


def fetch(folder: Path) -> bool:
    """Whether a folder is there; brought to this machine first where only the home's bucket has it.

    Raises:
        DataError: the bucket cannot be read, or the folder is damaged.
    """
    if folder.is_dir() or not storage.key_of(folder):
        return folder.is_dir()
    with locked(_lock_of(folder), f"{folder} is being fetched by another process"):
        return _fetch(folder)


def _fetch(folder: Path) -> bool:
    """``fetch`` of who holds the lock."""
    if not folder.is_dir() and storage.key_of(folder):
        for path in folder.parent.glob(f".{glob.escape(folder.name)}.fetching-*"):
            shutil.rmtree(path, ignore_errors=True)
    return storage.fetch(folder)


def remove(folder: Path) -> None:
    """Removes a folder, here and in the home's bucket."""
    storage.drop(folder)
    shutil.rmtree(folder)


@contextmanager
def locked(file: Path, why: str = "") -> Iterator[None]:
    """Holds a lock file against all other processes; who has to wait logs ``why``, where it is given.

    Released by the kernel when the holder dies. Readers take no lock.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if why:
                log.info("%s; waiting", why)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """What fails within, in whichever library, because the disk is full says so.

    Raises:
        DataError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        full = any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))
        if not full and shutil.disk_usage(folder).free >= _LEAST_FREE_BYTES:
            raise
        what = str(error).partition("\n")[0]
        raise DataError(
            f"no room left on the disk of {folder} ({what}): nothing half-written stays there; make room, or "
            "choose a folder on another disk (RECRAY_HOME)"
        ) from error


def put(staged: Path, path: Path) -> None:
    """Gives what was written beside its place that place, in one rename that survives a power cut.

    Raises:
        FileExistsError: in the home's bucket stands something there already.
    """
    if not storage.push(staged, path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    os.rename(staged, path)
    fsync(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file in one step: a reader sees all of it or the one before."""
    staged = path.with_name(f".{path.name}.new")
    try:
        with room_in(path.parent), staged.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(staged, path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Makes a file's content, or the renames inside a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
