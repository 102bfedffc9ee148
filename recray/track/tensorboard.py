"""TensorBoard: an event file in the run's folder, for ``tensorboard --logdir`` of the folder of all runs.

Written by tensorboardX, which Ray Tune brings; ``tensorboard`` itself is needed to look at it. Its
``SummaryWriter`` puts events into a queue that no flush waits for: what a killed process had told was lost.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.image import imread
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams, image, text

from recray.track.history import Report
from recray.track.record import Outcome, RunFolder

FOLDER = "tensorboard"


class TensorBoard:
    """Scalars by epoch, hyperparameters, and at the end the card and the learning curves."""

    def __init__(self, run: RunFolder, memory: dict[str, Any]) -> None:
        self.run = run
        (run.folder / FOLDER).mkdir(exist_ok=True)
        # By its name alone a second file of the same second would take the first one's place.
        self.events = EventsWriter(str(run.folder / FOLDER / "events"), f".{time.time_ns()}")

    def report(self, first: int, reports: Sequence[Report]) -> None:
        for report in reports:
            self._add(_scalars(report), int(report["epoch"]), report.get("time"))
        self.events.flush()

    def finish(self, outcome: Outcome) -> None:
        metrics = {f"test/{name}": value for name, value in outcome.metrics.items()}
        self._add(_scalars(metrics))
        for summary in hparams(_plain(self.run.settings()), metrics):
            self._add(summary)
        self._add(text("outcome", f"{outcome.state} {outcome.reference}\n\n{outcome.said}"))
        if outcome.card:
            self._add(text("card", _table(outcome.card)))
        if picture := self.run.picture():
            pixels_HWC = (255 * imread(picture)[:, :, :3]).astype(np.uint8)
            self._add(image("curves", pixels_HWC, dataformats="HWC"))
        self.events.close()

    def _add(self, summary: Summary, epoch: int | None = None, unix_s: float | None = None) -> None:
        self.events.write_event(Event(summary=summary, step=epoch, wall_time=unix_s or time.time()))


def _scalars(values: Mapping[str, float]) -> Summary:
    """Under their own names: ``SummaryWriter.add_scalar`` would write ``ndcg_10``."""
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def _plain(settings: Mapping[str, object]) -> dict[str, object]:
    """Hyperparameters as TensorBoard takes them: numbers, truth values and text."""
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in settings.items()}


def _table(values: Mapping[str, object]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in values.items())])


REPORTER = TensorBoard
