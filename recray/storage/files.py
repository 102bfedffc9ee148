"""Small files that are replaced: a run's record, a store's journal. The cache holds what was last seen."""

import os
import tempfile
from pathlib import Path

import recray.storage.bucket as bucket
from recray.storage.bucket import Object, Tag, patiently
from recray.storage.home import key_of


def refresh(path: Path, *, wait: bool = True) -> None:
    """Makes this machine's copy what the bucket has; while it is away, the copy that is there stays.

    Args:
        wait: where there is no copy, ask for as long as ``patiently`` does.
    Raises:
        UnreachableError: there is neither.
    """
    if (key := key_of(path)) is None:
        return
    if path.exists():
        bucket.if_there(lambda: _take(path, bucket.get(key)), lambda: None)
    else:
        _take(path, patiently(lambda: bucket.get(key)) if wait else bucket.get(key))


def _take(path: Path, found: Object | None) -> None:
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
    return bucket.tag(key)


def erase(path: Path) -> None:
    """Removes a file, here and there."""
    if (key := key_of(path)) is not None:
        patiently(lambda: bucket.delete([key]))
    path.unlink(missing_ok=True)


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staged = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with open(descriptor, "wb") as stream:
        stream.write(content)
    os.replace(staged, path)
