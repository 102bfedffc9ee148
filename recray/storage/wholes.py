"""Folders that appear whole in the bucket and never change: data sets, checkpoints, versions.

The files of a folder go up under a name that no other upload has, and then its record, FOLDER``.whole.json``,
which names each of them with size and digest, and is written only where there is none. Readers see folders
that have a record; of two that make one folder at once, the first is right.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import recray.storage.bucket as bucket
from recray import paths
from recray.storage.bucket import ChangedError, HomeDamagedError, HomeError, patiently
from recray.storage.home import key_of

log = logging.getLogger(__name__)
RECORD = ".whole.json"
_UPLOAD = ".up-"
_AT_ONCE = 8  # files

Record = dict[str, Any]
"""``upload``: the name that its files lie under; ``files``: of each, the size in bytes and the sha256."""


def push(staged: Path, path: Path) -> bool:
    """Uploads what is to stand at ``path``; False: something stands there already.

    Raises:
        HomeError: it cannot be written there; nothing of it is ever seen.
    """
    if (key := key_of(path)) is None:
        return True
    upload = f"{_UPLOAD}{secrets.token_hex(6)}"
    files = {file.relative_to(staged).as_posix(): file for file in staged.rglob("*") if file.is_file()}

    def send(name: str) -> tuple[str, dict[str, Any]]:
        patiently(lambda: bucket.upload(files[name], f"{key}/{upload}/{name}"))
        return name, {"size_bytes": files[name].stat().st_size, "sha256": _sha256(files[name])}

    record: Record = {"upload": upload, "files": dict(_all(send, files))}
    content = json.dumps(record, indent=1, sort_keys=True).encode()
    try:
        patiently(lambda: bucket.put_if(key + RECORD, content, None))
    except ChangedError:
        _sweep(key, lambda name: name == upload)
        return False
    _sweep(key, lambda name: name.startswith(_UPLOAD) and name != upload)  # what killed uploads left
    return True


def fetch(path: Path) -> bool:
    """Whether a folder is there; brought to this machine where only the bucket has it.

    The caller holds a lock against others of this machine.

    Raises:
        HomeError: it cannot be read.
        HomeDamagedError: it is not what was written.
    """
    if path.is_dir():
        return True
    if (key := key_of(path)) is None or (record := _record(key)) is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.fetching-", dir=path.parent))

    def bring(name: str) -> None:
        target, wanted = work / name, record["files"][name]
        target.parent.mkdir(parents=True, exist_ok=True)
        found = patiently(lambda: bucket.download(f"{key}/{record['upload']}/{name}", target))
        if found != wanted["sha256"]:
            where = f"{paths.address()}/{key}"
            raise HomeDamagedError(f"{where}: {name} is damaged: delete {where}{RECORD} and make it again")

    try:
        log.info("fetching %s from %s", key, paths.address())
        _all(bring, record["files"])
        work.chmod(0o755)
        os.rename(work, path)
    except FileNotFoundError:  # it was removed meanwhile
        return False
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return path.is_dir()


def peek(path: Path, name: str) -> bytes | None:
    """One file of a folder, without the others; None: there is no such folder or file."""
    if (path / name).is_file():
        return (path / name).read_bytes()
    if (key := key_of(path)) is None or (record := _record(key)) is None:
        return None
    found = patiently(lambda: bucket.get(f"{key}/{record['upload']}/{name}"))
    return found.content if found else None


def names_in(folder: Path) -> list[str]:
    """Names of the folders in it that are whole; while the bucket is away, those that the cache has."""
    if (key := key_of(folder)) is None:
        return _here(folder)
    found = bucket.if_there(
        lambda: [name for name in bucket.listing(key).objects if name.endswith(RECORD)],
        lambda: [name for name in _here(folder) if not name.startswith(".")],
    )
    return [name.removesuffix(RECORD) for name in found]


def folders_in(folder: Path) -> list[str]:
    """Names of all folders in it, whatever they hold."""
    here = [name for name in _here(folder) if (folder / name).is_dir()]
    if (key := key_of(folder)) is None:
        return here
    return bucket.if_there(lambda: sorted({*here, *bucket.listing(key).folders}), lambda: here)


def _here(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def drop(path: Path) -> None:
    """Removes a folder from the bucket, its record first; this machine's is the caller's."""
    if (key := key_of(path)) is not None:
        patiently(lambda: bucket.delete([key + RECORD]))
        _sweep(key, lambda _: True)


def _record(key: str) -> Record | None:
    found = patiently(lambda: bucket.get(key + RECORD))
    return json.loads(found.content) if found else None


def _sweep(key: str, is_dead: Callable[[str], bool]) -> None:
    """Removes uploads; what cannot be removed now stays, and no one sees it."""
    try:
        keys = bucket.keys_under(key)
        dead = [each for each in keys if is_dead(each.removeprefix(f"{key}/").partition("/")[0])]
        bucket.delete([each for each in dead if not each.endswith(RECORD)])
    except HomeError as error:
        log.info("leftovers of %s stay: %s", key, error)


def _all(do: Callable[[str], Any], names: Iterable[str]) -> list[Any]:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="recray-storage") as pool:
        return list(pool.map(do, names))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
