"""Small files that are replaced: a run's record, a store's journal. The cache holds what was last seen."""

import logging
import os
import tempfile
from pathlib import Path

import recray.storage.bucket as bucket
from recray.storage.bucket import Tag, UnreachableError, patiently
from recray.storage.home import key_of

log = logging.getLogger(__name__)
_away = False


def refresh(path: Path) -> None:
    """Makes this machine's copy what the bucket has; while it is away, the copy there is stays.

    Raises:
        UnreachableError: there is neither.
    """
    if (key := key_of(path)) is None:
        return
    if path.exists():
        try:
            found = bucket.get(key)
        except UnreachableError as error:
            say_once(error)
            return
    else:
        found = patiently(lambda: bucket.get(key))
    back()
    if found is None:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_bytes() != found.content:
        _keep(path, found.content)


def send(path: Path) -> None:
    """Replaces what the bucket has by this machine's copy: the file has one writer."""
    if (key := key_of(path)) is not None:
        content = path.read_bytes()
        patiently(lambda: bucket.put(key, content))


def replace(path: Path, content: bytes, before: Tag | None) -> None:
    """Replaces a file of many writers, which is still what it was; None: it was not there.

    Raises:
        ChangedError: somebody else was faster.
        UnreachableError: it cannot be said whether anything was changed.
    """
    key = key_of(path)
    assert key is not None
    bucket.put_if(key, content, before)
    _keep(path, content)


def tag_of(path: Path) -> Tag | None:
    """Of the bucket's file; None: there is none.

    Raises:
        UnreachableError: there is no answer.
    """
    key = key_of(path)
    assert key is not None
    found = bucket.tag(key)
    back()
    return found


def erase(path: Path) -> None:
    """Removes a file, here and there."""
    if (key := key_of(path)) is not None:
        patiently(lambda: bucket.delete([key]))
    path.unlink(missing_ok=True)


def say_once(error: UnreachableError) -> None:
    """That the cache answers in the bucket's place, as long as that lasts."""
    global _away
    if not _away:
        log.warning("%s; going on with what this machine has of it", error)
    _away = True


def back() -> None:
    global _away
    if _away:
        log.warning("the home answers again")
    _away = False


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staged = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with open(descriptor, "wb") as stream:
        stream.write(content)
    os.replace(staged, path)
