"""Files that several versions have in common, kept once: events, catalogues, vectors that did not change.

A version's file is a hard link to ``<store>/.files/<sha256>``, so that whoever reads a version sees a plain
file, and a file of equal content costs nothing more. Where the file system has no hard links, a version
keeps its own copy.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from recray.folders import file_sha256
from recray.store.manifest import FileEntry

log = logging.getLogger(__name__)
FOLDER = ".files"
LEAST_BYTES = 4096  # what a file takes on disk anyway


def share(staged: Path, files: Mapping[str, FileEntry], root: Path) -> None:
    """Replaces sealed files under ``staged`` by links to what the store has of them already."""
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, entry in files.items():
        if entry.size_bytes >= LEAST_BYTES:
            try:
                _link(staged / name, entry, root / FOLDER / entry.sha256)
            except OSError as error:
                log.debug("%s stays a copy of its own: %s", name, error)


def drop_unheld(root: Path) -> None:
    """Removes what no version holds: kept for one that was never published, or is gone.

    A publisher that was about to link to it keeps its own copy.
    """
    for kept in (root / FOLDER).glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if kept.stat().st_nlink == 1:
                kept.unlink()


def _link(path: Path, entry: FileEntry, kept: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.link(path, kept)
        return
    if file_sha256(kept) != entry.sha256:  # a damaged file must not spread to new versions
        _replace(path, kept)
        return
    _replace(kept, path)


def _replace(source: Path, target: Path) -> None:
    """Makes ``target`` a link to ``source`` in one step."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.link")
    beside.unlink(missing_ok=True)
    os.link(source, beside)
    os.replace(beside, target)
