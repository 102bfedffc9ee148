"""What a run measured on the test part, kept: a search that goes on measures nothing twice.

<runs>/<name>/judged/<digest of the run>/   lists: the files of ``eval.kept``; clicks and the rest:
    measured.json    its card, and what is a number
    arrays.npz       what has a value for each row
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recray import __version__
from recray.config import from_dict, to_dict
from recray.eval.clicks import ClickEvaluation
from recray.eval.evaluate import Evaluation
from recray.eval.kept import read_evaluation, write_evaluation
from recray.eval.two_stage import MeasuredStages
from recray.folders import build_once, digest
from recray.pipelines.tune.subject import Subject
from recray.schema import ProtocolCard
from recray.train.context import LaunchConfig
from recray.train.run import Measured, Run

SAID, ARRAYS = "measured.json", "arrays.npz"


@dataclass(frozen=True)
class Means:
    """Of what is neither lists nor clicks, the metrics are all that is kept."""

    metrics: dict[str, float]
    card: ProtocolCard | None = None

    def means(self) -> dict[str, float]:
        return self.metrics


def measured_once(folder: Path, subject: Subject[Any], run: Run, where: LaunchConfig) -> Measured:
    """As ``subject.measure``; what this version of recray measured before is read from ``folder``."""
    kept = folder / digest({"run": to_dict(run), "code": __version__})

    def build(target: Path, _: Path) -> None:
        write_measured(target, subject.measure(run, where))

    build_once(kept, lambda _: True, build)
    return read_measured(kept)


def write_measured(folder: Path, measured: Measured) -> None:
    """Of two stages that which is served."""
    measured = measured.ranker if isinstance(measured, MeasuredStages) else measured
    if isinstance(measured, Evaluation):
        write_evaluation(folder, measured)
        return
    card = to_dict(measured.card) if measured.card else None
    said: dict[str, Any] = {"kind": "means", "card": card, "numbers": measured.means()}
    arrays: dict[str, Any] = {}
    if isinstance(measured, ClickEvaluation):
        said |= {"kind": "clicks", "numbers": {}}
        arrays = {name: getattr(measured, name) for name in ("logits_N", "labels_N", "units_N")}
    np.savez_compressed(folder / ARRAYS, **arrays)
    (folder / SAID).write_text(json.dumps(said, indent=1))


def read_measured(folder: Path) -> Measured:
    if not (folder / SAID).is_file():
        return read_evaluation(folder)
    said = json.loads((folder / SAID).read_text())
    with np.load(folder / ARRAYS) as kept:
        arrays = {name: kept[name] for name in kept.files}
    card = from_dict(ProtocolCard, said["card"]) if said["card"] else None
    if said["kind"] == "means" or card is None:
        return Means(said["numbers"], card)
    return ClickEvaluation(card=card, **arrays)
