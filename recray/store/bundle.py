"""An open bundle: one immutable folder of files under one digest."""

from dataclasses import dataclass, replace
from pathlib import Path

from recray.config import nearest
from recray.folders import file_sha256
from recray.store.manifest import BundleManifest, DamagedError, Reference, StoreError, read_manifest

MEASURED = "measured"


@dataclass(frozen=True)
class Bundle:
    """A published version. Nothing in ``folder`` changes after it became visible."""

    folder: Path
    manifest: BundleManifest

    @property
    def reference(self) -> Reference:
        return self.manifest.reference

    def path(self, file: str) -> Path:
        """Where a file of this bundle lies.

        Raises:
            StoreError: the bundle has no such file.
            DamagedError: it is gone or of another size.
        """
        entry = self.manifest.files.get(file)
        if entry is None:
            raise StoreError(f"{self.reference} has no file {file!r}{nearest(file, self.manifest.files)}")
        path = self.folder / file
        size_bytes = path.stat().st_size if path.is_file() else None
        if size_bytes != entry.size_bytes:
            found = "is missing" if size_bytes is None else f"has {size_bytes} bytes, not {entry.size_bytes}"
            raise DamagedError(f"{self.reference} is damaged: {file} {found}; roll back or publish again")
        return path

    @property
    def measured(self) -> "Bundle":
        """What the version's metrics are of: a model that had learnt no more than its split allowed.

        Another one than is served where that was fitted again on everything: offline, and to make examples
        for a ranker, only this one may be asked. Else the bundle itself.
        """
        inside = f"{MEASURED}/"
        files = {
            name.removeprefix(inside): entry
            for name, entry in self.manifest.files.items()
            if name.startswith(inside)
        }
        if not files:
            return self
        return Bundle(self.folder / MEASURED, replace(self.manifest, files=files))

    def verify(self) -> None:
        """Reads every file and compares it with the manifest.

        Raises:
            DamagedError: a file is missing or differs, naming the first one.
        """
        for file, entry in self.manifest.files.items():
            if file_sha256(self.path(file)) != entry.sha256:
                raise DamagedError(
                    f"{self.reference} is damaged: the content of {file} differs from what was "
                    "published; roll back or publish again"
                )


def open_folder(folder: Path) -> Bundle:
    """The bundle in ``folder``; cheap, files are checked by ``path`` and ``verify``.

    Raises:
        DamagedError: its manifest is missing or was changed.
    """
    return Bundle(folder, read_manifest(folder))
