"""TensorBoard: an event file in the run's folder, for ``tensorboard --logdir`` of the folder of all runs.

Written by tensorboardX, which Ray Tune brings; ``tensorboard`` itself is needed to look at it.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.image import imread
from tensorboardX import SummaryWriter
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from recray.track.history import Report
from recray.track.record import Outcome, RunFolder

FOLDER = "tensorboard"


class TensorBoard:
    """Scalars by epoch, hyperparameters, and at the end the card and the learning curves."""

    def __init__(self, run: RunFolder, memory: dict[str, Any]) -> None:
        self.run = run
        # By its name alone a second file of the same second would take the first one's place.
        self.writer = SummaryWriter(str(run.folder / FOLDER), filename_suffix=f".{time.time_ns()}")

    def report(self, first: int, reports: Sequence[Report]) -> None:
        for report in reports:
            self._scalars(report, int(report["epoch"]), report.get("time"))
        self.writer.flush()

    def finish(self, outcome: Outcome) -> None:
        metrics = {f"test/{name}": value for name, value in outcome.metrics.items()}
        self._scalars(metrics)
        for summary in hparams(_plain(self.run.settings()), metrics):
            self.writer.file_writer.add_summary(summary)
        self.writer.add_text("outcome", f"{outcome.state} {outcome.reference}\n\n{outcome.said}")
        if outcome.card:
            self.writer.add_text("card", _table(outcome.card))
        if picture := self.run.picture():
            pixels_HWC = (255 * imread(picture)[:, :, :3]).astype(np.uint8)
            self.writer.add_image("curves", pixels_HWC, dataformats="HWC")
        self.writer.close()

    def _scalars(
        self, values: Mapping[str, float], epoch: int | None = None, unix_s: float | None = None
    ) -> None:
        """Under their own names: ``add_scalar`` would write ``ndcg_10``."""
        found = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self.writer.file_writer.add_summary(found, epoch, unix_s)


def _plain(settings: Mapping[str, object]) -> dict[str, object]:
    """Hyperparameters as TensorBoard takes them: numbers, truth values and text."""
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in settings.items()}


def _table(values: Mapping[str, object]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in values.items())])


REPORTER = TensorBoard
