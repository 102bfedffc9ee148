"""Learning curves: the validation metric and the training loss of each epoch, as a picture."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recray.pages.palette import BLUE, ORANGE
from recray.pages.plots import panels
from recray.track import history
from recray.track.history import Report

VALIDATION, LOSS = BLUE, ORANGE


def plot_curves(
    histories: Mapping[str, Sequence[Sequence[Report]]], path: Path, metric: str, *, goal: str = "max"
) -> None:
    """A PNG with one panel per model and a line per seed; a dot marks the best epoch of each.

    Args:
        histories: model -> the reports of each of its runs, as the training loop makes them (``epoch``, the
            metric, and ``train_loss``, which is drawn against the axis on the right where it is there).
        goal: whether the best epoch is the highest ("max") or the lowest ("min") of ``metric``.
    """
    plots = [
        (model, partial(draw_curves, runs=runs, metric=metric, goal=goal))
        for model, runs in histories.items()
    ]
    panels(path, plots)


def draw_curves(axes: Axes, *, runs: Sequence[Sequence[Report]], metric: str, goal: str = "max") -> None:
    """Those of one model, a line per run."""
    losses = axes.twinx()
    losses.spines["right"].set_visible(True)
    epochs_of = [history.by_epoch(run, metric) for run in runs]
    for run in epochs_of:
        epochs = [report["epoch"] for report in run]
        axes.plot(epochs, [report[metric] for report in run], color=VALIDATION, linewidth=1.4)
        with_loss = [report for report in run if "train_loss" in report]
        at, loss = [r["epoch"] for r in with_loss], [r["train_loss"] for r in with_loss]
        losses.plot(at, loss, "--", color=LOSS, linewidth=1)
        if run:
            best = (max if goal == "max" else min)(run, key=lambda report: report[metric])
            axes.plot(best["epoch"], best[metric], "o", color=VALIDATION, markersize=5)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylabel(f"validation {metric}", color=VALIDATION)
    losses.set_ylabel("training loss (dashed)", color=LOSS)
    if not any(epochs_of):
        axes.text(0.5, 0.5, "no epochs", ha="center", transform=axes.transAxes)
