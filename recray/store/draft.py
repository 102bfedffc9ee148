"""A version that is not yet published: what it will be called, and how its files are written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recray.schema import ProtocolCard, Schema
from recray.store.bundle import MEASURED
from recray.store.manifest import Reference


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The fields of ``Store.publish``; nothing is written until then."""

    name: str
    write: Callable[[Path], None]
    model: str
    config: Mapping[str, Any]
    schema: Schema | None = None
    card: ProtocolCard | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    requires: Mapping[str, Reference] = field(default_factory=dict)
    parent: int | None = None
    run: Mapping[str, Any] | None = None

    def refitted(self, final: "Draft") -> "Draft":
        """A version that serves what ``final`` writes and keeps what was measured: ``Bundle.measured``."""

        def write(folder: Path) -> None:
            final.write(folder)
            (folder / MEASURED).mkdir()
            self.write(folder / MEASURED)

        return replace(final, write=write)
