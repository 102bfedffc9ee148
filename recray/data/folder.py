"""Prepared folders appear whole or not at all, however often and wherever they are asked for at once.

Everything is written into a temporary folder beside the target, which one rename then puts in place:
readers see a complete folder or none. A lock file beside the target (released by the system when
its holder dies) lets one process prepare while others wait, and lets the next one remove what a
killed one left behind.
"""

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

from recray.schema import DataError

log = logging.getLogger(__name__)


def build_once(
    folder: Path, is_prepared: Callable[[Path], bool], build: Callable[[Path, Path], None]
) -> None:
    """Has ``build(target, scratch)`` fill two empty folders and renames the target to ``folder``.

    Args:
        is_prepared: whether ``folder``, which exists and is not empty, is what is wanted; raises
            where it holds something else.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if folder.exists() and any(folder.iterdir()) and is_prepared(folder):
            return
        _remove_leftovers(folder)
        work = Path(tempfile.mkdtemp(prefix=_work_prefix(folder), dir=folder.parent))
        try:
            target, scratch = work / "dataset", work / "scratch"
            target.mkdir()
            scratch.mkdir()
            build(target, scratch)
            for path in [*target.rglob("*"), target]:
                _sync(path)
            os.rename(target, folder)
            _sync(folder.parent)
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


def _remove_leftovers(folder: Path) -> None:
    for path in folder.parent.glob(glob.escape(_work_prefix(folder)) + "*"):
        log.info("removing %s, left by a preparation that was interrupted", path)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s is being prepared by another process; waiting", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
