"""What a bundle says about itself: the manifest, and the one digest over everything in it.

The manifest is the last file written into a bundle. Its digest covers every file (by sha256) and
every field of the manifest, so two bundles with one digest serve the same answers.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recray import storage
from recray.config import ConfigError
from recray.schema import ProtocolCard, Schema, schema_from_json
from recray.storage import HomeDamagedError, HomeError

MANIFEST_FILE = "manifest.json"
FORMAT = 2


class StoreError(ConfigError):
    """The store cannot do this: the message names the bundle, and what to do instead."""


class DamagedError(StoreError):
    """What lies in the store is not what was written there: an earlier version may be whole."""


@contextmanager
def reached() -> Iterator[None]:
    """What is wrong with a home that is a bucket, as the store says it."""
    try:
        yield
    except HomeDamagedError as error:
        raise DamagedError(str(error)) from error
    except HomeError as error:
        raise StoreError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Exactly one bundle: the digest makes it impossible to mean another one."""

    name: str
    version: int
    digest: str

    def __str__(self) -> str:
        return f"{self.name} version {self.version} ({self.digest[:12]})"


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a bundle."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class BundleManifest:
    """All that is known of a bundle without opening its files."""

    name: str
    version: int
    model: str  # registry name, e.g. "two_tower": what rebuilds the model
    config: dict[str, Any]
    schema: Schema | None
    card: ProtocolCard | None
    metrics: dict[str, Any]
    requires: dict[str, Reference]  # role -> the bundle that this one was made for
    parent: int | None  # version that this one was trained from
    created_at: str  # ISO 8601, UTC
    files: dict[str, FileEntry]  # relative path -> entry, sorted
    run: dict[str, Any] | None = None  # settings, code, data, duration: what made it; see ``RunRecord``
    format: int = FORMAT
    digest: str = field(default="")

    @property
    def reference(self) -> Reference:
        return Reference(name=self.name, version=self.version, digest=self.digest)

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["schema"] = self.schema.to_json() if self.schema else None
        values["card"] = self.card.to_json() if self.card else None
        values["requires"] = {role: dataclasses.asdict(r) for role, r in self.requires.items()}
        values["files"] = {path: dataclasses.asdict(entry) for path, entry in self.files.items()}
        return values

    def computed_digest(self) -> str:
        """sha256 over every field but the digest itself; ``files`` brings in every file."""
        values = {k: v for k, v in self.to_json().items() if k != "digest"}
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def sealed(self) -> "BundleManifest":
        """A copy that carries its digest.

        Raises:
            StoreError: the config or the metrics hold something that JSON cannot.
        """
        try:
            return dataclasses.replace(self, digest=self.computed_digest())
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"bundle {self.name!r}: config and metrics must be plain JSON values without NaN: {error}"
            ) from error


def read_manifest(folder: Path) -> BundleManifest:
    """The manifest of a published bundle, checked against its own digest.

    Raises:
        DamagedError: missing, unreadable, or changed since it was published.
        StoreError: of a newer format.
    """
    path = folder / MANIFEST_FILE
    try:
        if (content := storage.peek(folder, MANIFEST_FILE)) is None:
            raise FileNotFoundError(f"there is no {MANIFEST_FILE}")
        values = json.loads(content)
        found = values["format"]
        manifest = _from_json(values) if found == FORMAT else None
        digest = manifest.computed_digest() if manifest else ""
    except HomeError:
        raise
    except Exception as error:  # NaN, nesting without end: whatever the bytes hold, it is no manifest
        raise DamagedError(f"{path}: not a readable bundle manifest ({error}); publish it again") from error
    if manifest is None:
        raise StoreError(
            f"{path} has format {found!r}, this version of recray reads {FORMAT}: publish it again"
        )
    if digest != manifest.digest:
        raise DamagedError(f"{path}: changed after it was published (digest differs); publish it again")
    return manifest


def _from_json(values: dict[str, Any]) -> BundleManifest:
    schema, card = values["schema"], values["card"]
    parsed = {
        "schema": schema_from_json(schema) if schema else None,
        "card": ProtocolCard.from_json(card) if card else None,
        "requires": {role: Reference(**r) for role, r in values["requires"].items()},
        "files": {path: FileEntry(**entry) for path, entry in values["files"].items()},
    }
    return BundleManifest(**{**values, **parsed})
