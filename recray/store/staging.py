"""Half-written bundles: folders of publishers at work, and the sweep of those that died.

A staging folder is made and locked while the application's folder is locked, and its lock lives as
long as its publisher's process. So a staging folder that can be locked belongs to nobody.
"""

import contextlib
import fcntl
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from recray.folders import file_sha256, fsync, room_in
from recray.store.journal import locked
from recray.store.manifest import MANIFEST_FILE, FileEntry, StoreError
from recray.store.shared import drop_unheld

log = logging.getLogger(__name__)

PREFIX = ".staging-"
# Formats that run code when they are read have no place on a path that a server loads.
PICKLED = {".pt", ".pth", ".pkl", ".pickle", ".joblib", ".bin"}


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder for one bundle inside the application's ``folder``; gone afterwards.

    Raises:
        DataError: the disk is full.
    """
    with locked(folder):
        sweep(folder)
        staged = Path(tempfile.mkdtemp(dir=folder, prefix=PREFIX))
        lock = (staged / "lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with room_in(folder):
            (staged / "bundle").mkdir()
            yield staged / "bundle"
    finally:
        lock.close()
        shutil.rmtree(staged, ignore_errors=True)
        drop_unheld(folder.parent)


def sweep(folder: Path) -> None:
    """Removes what publishers left that died. The caller holds ``locked(folder)``."""
    for staged in folder.glob(PREFIX + "*"):
        alive_or_gone = contextlib.suppress(BlockingIOError, FileNotFoundError)
        with alive_or_gone, (staged / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            log.info("removing %s, left by a publisher that died", staged)
            shutil.rmtree(staged, ignore_errors=True)


def seal_files(folder: Path) -> dict[str, FileEntry]:
    """Hashes, flushes to disk and write-protects every file under ``folder``.

    Raises:
        StoreError: there is none, or one is a link, not a plain file, or of a pickled format.
    """
    entries: dict[str, FileEntry] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            raise StoreError(f"{name}: a bundle holds plain files only; write a copy of what it points to")
        if name == MANIFEST_FILE:
            raise StoreError(f"{name} is written by the store; give your file another name")
        if path.suffix in PICKLED:
            raise StoreError(f"{name}: pickled formats are refused; write weights as .safetensors")
        fsync(path)
        path.chmod(0o444)
        entries[name] = FileEntry(size_bytes=path.stat().st_size, sha256=file_sha256(path))
    if not entries:
        raise StoreError("`write` put no file into the folder it was given; write the weights into it")
    for inner in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        fsync(inner)
    return entries
