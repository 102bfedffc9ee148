"""The store: immutable numbered versions of bundles, and the names that point at them.

Layout: ``<root>/<name>/versions/<number>/`` (files and ``manifest.json``), ``<root>/<name>/names.json``, and
``<root>/.files/<sha256>`` for what versions have in common. A version becomes visible by one rename, a name
moves by one rename; readers take no lock and see the old state or the new one. Where the home is a bucket, it
is one conditional write instead, which one machine of several wins.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from recray import paths, storage
from recray.config import nearest
from recray.folders import fetch, fsync, put
from recray.schema import ProtocolCard, Schema
from recray.storage import ChangedError
from recray.store.bundle import Bundle, open_folder
from recray.store.journal import (
    Entry,
    Move,
    State,
    damaged,
    locked,
    now,
    read_journal,
    state_of,
    whoever,
    write_journal,
)
from recray.store.manifest import MANIFEST_FILE, BundleManifest, Reference, StoreError, reached, read_manifest
from recray.store.names import PRODUCTION, check_name, stacks
from recray.store.shared import share
from recray.store.staging import seal_files, staging
from recray.store.traffic import refused, traffic_of

log = logging.getLogger(__name__)

_APPLICATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Store:
    """Versions and names of every application under one folder, safe for many processes at once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or paths.store_dir()
        self.published = "published %s"  # as it is said
        self._read: dict[str, tuple[State, list[Entry]]] = {}  # journals, by application

    def publish(
        self,
        name: str,
        write: Callable[[Path], None],
        *,
        model: str,
        config: Mapping[str, Any],
        schema: Schema | None = None,
        card: ProtocolCard | None = None,
        metrics: Mapping[str, Any] | None = None,
        requires: Mapping[str, Reference] | None = None,
        parent: int | None = None,
        run: Mapping[str, Any] | None = None,
    ) -> Bundle:
        """Makes a new version of what ``write`` puts into the folder it is given.

        Nothing is visible until the end, and no name moves. Publishers do not wait for each other
        while they write. ``requires`` names the bundles that this one works with, by role; ``run`` is all
        that is needed to make it again.

        Raises:
            StoreError: a bad name, no files, a pickled file, a required bundle that is not here, or a home
                that cannot be reached.
            DataError: the disk is full.
        """
        folder = self._application_folder(name)
        for reference in (requires or {}).values():
            self.resolve(reference)
        with staging(folder) as staged:
            write(staged)
            files = seal_files(staged)
            share(staged, files, self.root)
            draft = BundleManifest(
                name=name,
                version=0,
                model=model,
                config=dict(config),
                schema=schema,
                card=card,
                metrics=dict(metrics or {}),
                requires=dict(requires or {}),
                parent=parent,
                created_at=now(),
                files=files,
                run=dict(run) if run else None,
            )
            bundle = self._numbered(staged, draft)
        log.info(self.published, bundle.reference)
        return bundle

    @reached()
    def _numbered(self, staged: Path, draft: BundleManifest) -> Bundle:
        """Gives a version the next number that is free."""
        folder = self._application_folder(draft.name)
        while True:
            with nullcontext() if storage.key_of(folder) else locked(folder):  # nobody waits for an upload
                number = max(self._numbers(draft.name), default=0) + 1
                manifest = replace(draft, version=number).sealed()
                try:
                    return Bundle(_commit(staged, manifest, folder / "versions"), manifest)
                except FileExistsError:
                    log.info("%s: another publisher was faster", manifest.reference)

    def install(self, manifest: BundleManifest, write: Callable[[Path], None]) -> Bundle:
        """Takes in a version that another store published, under its own name, number and digest.

        ``write`` puts the manifest's files into the folder it is given; it is not called where this
        store has that version already.

        Raises:
            StoreError: the number is another bundle's here, or the files are not those of the manifest.
        """
        folder = self._application_folder(manifest.name)
        if manifest.version in self._numbers(manifest.name):
            return self.resolve(manifest.reference)
        with staging(folder) as staged:
            write(staged)
            found = seal_files(staged)
            if differs := {f for f, _ in set(found.items()) ^ set(manifest.files.items())}:
                raise StoreError(f"{manifest.reference}: {min(differs)} is not the file that was published")
            share(staged, found, self.root)
            with locked(folder):
                if manifest.version in self._numbers(manifest.name):  # somebody else was faster
                    return self.resolve(manifest.reference)
                try:
                    published = _commit(staged, manifest, folder / "versions")
                except FileExistsError:
                    return self.resolve(manifest.reference)
        log.info("installed %s", manifest.reference)
        return Bundle(published, manifest)

    @reached()
    def open(self, name: str, version: int | str = "production") -> Bundle:
        """A version by number (also as text), by a name that points at it, or the ``"latest"`` one.

        Raises:
            StoreError: no such application, name or version; the message lists what there is.
        """
        number = int(version) if str(version).isdecimal() else self._resolve_name(name, str(version))
        if number not in self._numbers(name):
            raise StoreError(f"{name!r} has no version {number}; {self._known(name)}")
        folder = self._application_folder(name) / "versions" / str(number)
        fetch(folder)
        return open_folder(folder)

    def resolve(self, reference: Reference) -> Bundle:
        """The bundle that a reference means, by version and digest.

        Raises:
            StoreError: it is not here, or another bundle stands in its place.
        """
        bundle = self.open(reference.name, reference.version)
        if bundle.manifest.digest != reference.digest:
            raise StoreError(f"{reference} is asked for, but the store holds {bundle.reference}")
        return bundle

    @reached()
    def applications(self) -> list[str]:
        """Names under which at least one version is published."""
        names = storage.folders_in(self.root)
        return [name for name in names if _APPLICATION.fullmatch(name) and self._numbers(name)]

    @reached()
    def versions(self, name: str) -> list[BundleManifest]:
        """Manifests of all versions, oldest first."""
        self._check_known(name)
        folder = self._application_folder(name) / "versions"
        return [read_manifest(folder / str(number)) for number in self._numbers(name)]

    def names(self, name: str) -> dict[str, int]:
        """Where each name of this application points."""
        self._check_known(name)
        return {n: stack[-1].version for n, stack in stacks(self.journal(name)).items() if stack}

    def history(self, name: str) -> list[Move]:
        """Every promotion and rollback of this application, oldest first."""
        return [entry for entry in self.journal(name) if isinstance(entry, Move)]

    def journal(self, name: str) -> list[Entry]:
        """All that was done to this application's names and traffic, oldest first.

        Raises:
            DamagedError: it cannot be read, or its entries cannot follow each other.
        """
        return self._journal(name)[1]

    @reached()
    def _journal(self, name: str) -> tuple[State | None, list[Entry]]:
        """With its state before it was read."""
        folder = self._application_folder(name)
        # Whoever follows looks once a second: what did not change is not read again.
        state = state_of(folder)
        known = self._read.get(name)
        if state is not None and known is not None and known[0] == state:
            return known
        entries = read_journal(folder)
        try:
            stacks(entries)
            traffic_of(entries)
        except (LookupError, ValueError) as error:
            raise damaged(folder, error) from error
        if state is not None:
            self._read[name] = state, entries
        return state, entries

    @reached()
    def change(self, name: str, make: Callable[[list[Entry]], list[Entry]]) -> None:
        """Adds what ``make`` makes of the entries that there are, in one step, while nobody else does.

        Raises:
            StoreError: as ``journal`` and ``make`` do; nothing is changed.
        """
        self._check_known(name)
        folder = self._application_folder(name)
        with locked(folder):
            while True:
                state, entries = self._journal(name)
                new = make(entries)
                with suppress(ChangedError):  # another machine was faster, which may change what is made
                    if new:
                        write_journal(folder, [*entries, *new], state)
                    return

    def promote(
        self,
        name: str,
        version: int,
        to: str = PRODUCTION,
        *,
        by: str = "",
        why: str = "",
        force: bool = False,
    ) -> None:
        """Points a name at a version, after reading the version and all it requires in full.

        Args:
            force: also where it was rolled back before.
        Raises:
            StoreError: no such name or version, the version is damaged, or was rolled back: then the name
                stays.
        """
        check_name(to)
        bundle = self.open(name, version)
        for needed in (bundle, *map(self.resolve, bundle.manifest.requires.values())):
            needed.verify()

        def move(entries: list[Entry]) -> list[Entry]:
            if [one.version for one in stacks(entries).get(to, [])][-1:] == [version]:
                return []
            why_not = traffic_of(entries).refused.get(bundle.manifest.digest)
            if why_not and to == PRODUCTION and not force:
                raise refused(bundle.reference, why_not)
            digest = bundle.manifest.digest
            who = by or whoever()
            return [
                Move(name=to, version=version, action="promote", at=now(), digest=digest, by=who, why=why)
            ]

        self.change(name, move)
        log.info("%s: %s is now version %d", name, to, version)

    def rollback(self, name: str, of: str = PRODUCTION, *, by: str = "", why: str = "") -> int:
        """Points a name back at the version it stood on before, and returns that version.

        Raises:
            StoreError: there is nothing to go back to.
        """
        check_name(of)
        version = 0

        def move(entries: list[Entry]) -> list[Entry]:
            nonlocal version
            stack = stacks(entries).get(of, [])
            if len(stack) < 2:
                stands = f"it stands on version {stack[0].version}" if stack else "it was never promoted"
                raise StoreError(f"{name!r}: {of} has no earlier version to roll back to; {stands}")
            version = stack[-2].version
            digest, who = stack[-2].digest, by or whoever()
            return [
                Move(name=of, version=version, action="rollback", at=now(), digest=digest, by=who, why=why)
            ]

        self.change(name, move)
        log.info("%s: %s is back on version %d", name, of, version)
        return version

    def _application_folder(self, name: str) -> Path:
        if not _APPLICATION.fullmatch(name):
            raise StoreError(f"{name!r} cannot name a bundle: use letters, digits, '.', '_' and '-'")
        return self.root / name

    @reached()
    def _numbers(self, name: str) -> list[int]:
        folder = self._application_folder(name) / "versions"
        return sorted(int(entry) for entry in storage.names_in(folder) if entry.isdecimal())

    def _check_known(self, name: str) -> None:
        if not self._numbers(name):
            known = self.applications()
            hint = nearest(name, known) if known else "; it is empty: publish a bundle first"
            raise StoreError(f"no bundle {name!r} in the store {self.root}{hint}")

    def _resolve_name(self, name: str, version: str) -> int:
        self._check_known(name)
        if version == "latest":
            return self._numbers(name)[-1]
        check_name(version, also=("latest",))
        pointed = self.names(name).get(version)
        if pointed is None:
            raise StoreError(
                f"{name!r} has no {version} version yet; {self._known(name)}. Promote one of them first"
            )
        return pointed

    def _known(self, name: str) -> str:
        self._check_known(name)
        pointing = "".join(f", {n} is {v}" for n, v in self.names(name).items())
        return f"versions: {', '.join(map(str, self._numbers(name)))}{pointing}"


def _commit(staged: Path, manifest: BundleManifest, versions: Path) -> Path:
    """Writes the manifest last, then makes the folder visible in one rename."""
    path = staged / MANIFEST_FILE
    path.unlink(missing_ok=True)  # of a number that another publisher was faster to take
    path.write_text(json.dumps(manifest.to_json(), indent=1))
    fsync(path)
    path.chmod(0o444)
    fsync(staged)
    versions.mkdir(exist_ok=True)
    published = versions / str(manifest.version)
    put(staged, published)  # fails where that version exists: no version is ever replaced
    return published
