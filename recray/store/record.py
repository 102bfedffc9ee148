"""How a version came about: the run in its manifest, and the reports that the run made on the way."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recray.config import from_dict
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError

HISTORY = "history.json"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that is needed to repeat a run, and what it took: part of a version's manifest."""

    recipe: str
    settings: dict[str, Any]  # of the run, as ``config.to_dict`` writes them
    seed: int
    code: str  # version of recray, and the commit where it runs from a checkout
    data: str
    data_hash: str
    epochs: float  # of the last report
    duration_s: float  # of training, both times where it was fitted again, the waiting for workers included
    where: str  # "local", or how many Ray workers
    machine: str
    learnt_until: str = ""  # ISO 8601: the newest event that the model which is served has learnt from
    refitted_epochs: int | None = None  # of the second training, on all data; None: there was none
    refitted: Literal["", "again", "continued"] = (
        ""  # how it began: from the start, or on from the first's end
    )
    versions: dict[str, str] = field(default_factory=dict)  # of the libraries that decide numbers
    feedback: dict[str, Any] = field(default_factory=dict)  # where the data was made of a log: of which rows


def run_record(bundle: Bundle) -> RunRecord:
    """All that is needed to repeat the run behind a version.

    Raises:
        StoreError: the version was not trained: it was made from another one, or by hand.
    """
    if bundle.manifest.run is None:
        raise StoreError(f"{bundle.reference} carries no run: it was made from another version")
    return from_dict(RunRecord, bundle.manifest.run)


def write_history(folder: Path, reports: Sequence[Mapping[str, float]]) -> None:
    """Puts the reports of a run into a bundle's folder."""
    (folder / HISTORY).write_text(json.dumps([dict(report) for report in reports]))


def read_history(bundle: Bundle) -> list[dict[str, float]]:
    """The reports of the run behind a version, oldest first; none where it kept none."""
    if HISTORY not in bundle.manifest.files:
        return []
    reports: list[dict[str, float]] = json.loads(bundle.path(HISTORY).read_text())
    return reports
