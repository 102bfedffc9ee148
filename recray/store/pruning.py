"""Versions that nobody needs any more, and their end."""

import contextlib
import logging
import secrets
import shutil
from collections.abc import Iterable

from recray import storage
from recray.config import ConfigError
from recray.store.journal import locked
from recray.store.manifest import BundleManifest, Reference
from recray.store.names import stacks
from recray.store.shared import drop_unheld
from recray.store.store import Store
from recray.store.traffic import traffic_of

log = logging.getLogger(__name__)
_Known = dict[tuple[str, int], BundleManifest]


def unneeded(store: Store, name: str, keep: int) -> list[BundleManifest]:
    """Versions of an application that may go, oldest first.

    What stays: the ``keep`` newest of every application, what a name points at and what it would be rolled
    back to, the arms of experiments that run, and all that one of these works with.

    Raises:
        ConfigError: ``keep`` is below 1: the newest version's number must not be given twice.
        StoreError: no such bundle, or a journal is damaged.
    """
    if keep < 1:
        raise ConfigError(f"keep is at least 1, got {keep}: the newest version stays")
    known: _Known = {
        (one.name, one.version): one for app in store.applications() for one in store.versions(app)
    }
    held = set[tuple[str, int]]()
    for app in store.applications():
        newest = [version for other, version in known if other == app][-keep:]
        _hold(held, known, ((app, version) for version in newest))
        journal = store.journal(app)
        for stack in stacks(journal).values():
            _hold(held, known, ((app, move.version) for move in stack[-2:]))
        for running in traffic_of(journal).running:
            _hold(held, known, (_key(arm.reference) for arm in running.experiment.arms))
    return [one for one in store.versions(name) if (name, one.version) not in held]


def prune(store: Store, name: str, keep: int) -> list[BundleManifest]:
    """Removes them, and what they alone held; returns what is gone.

    Who serves one of them at this moment goes on with what it has read.

    Raises:
        ConfigError, StoreError: as ``unneeded``.
    """
    folder = store.root / name
    with locked(folder):  # nobody is promoted meanwhile
        gone = unneeded(store, name, keep)
        for one in gone:
            path = folder / "versions" / str(one.version)
            storage.drop(path)
            with contextlib.suppress(FileNotFoundError):  # in a bucket, and never read here
                path.rename(beside := folder / "versions" / f".gone-{one.version}-{secrets.token_hex(4)}")
                shutil.rmtree(beside)
            log.info("%s is deleted", one.reference)
    drop_unheld(store.root)
    return gone


def _hold(held: set[tuple[str, int]], known: _Known, these: Iterable[tuple[str, int]]) -> None:
    """With all that they work with."""
    for key in these:
        if key in known and key not in held:
            held.add(key)
            _hold(held, known, map(_key, known[key].requires.values()))


def _key(reference: Reference) -> tuple[str, int]:
    return reference.name, reference.version
