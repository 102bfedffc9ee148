"""Learning curves: the validation metric and the training loss of each epoch, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recray.track import history
from recray.track.history import Report

VALIDATION, LOSS = "#1d3557", "#c9723a"


def plot_curves(
    histories: Mapping[str, Sequence[Sequence[Report]]], path: Path, metric: str, *, goal: str = "max"
) -> None:
    """A PNG with one panel per model and a line per seed; a dot marks the best epoch of each.

    Args:
        histories: model -> the reports of each of its runs, as the training loop makes them (``epoch``, the
            metric, and ``train_loss``, which is drawn against the axis on the right where it is there).
        goal: whether the best epoch is the highest ("max") or the lowest ("min") of ``metric``.
    """
    columns = max(1, min(3, len(histories)))
    lines = max(1, -(-len(histories) // columns))
    figure = Figure(figsize=(0.4 + 4.2 * columns, 0.6 + 3.0 * lines), layout="constrained")
    for index, (model, runs) in enumerate(histories.items()):
        axes = figure.add_subplot(lines, columns, index + 1)
        _panel(axes, [history.by_epoch(run, metric) for run in runs], metric, goal)
        axes.set_title(model, fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")


def _panel(axes: Axes, runs: Sequence[Sequence[Report]], metric: str, goal: str) -> None:
    losses = axes.twinx()
    for run in runs:
        epochs = [report["epoch"] for report in run]
        with_loss = [report for report in run if "train_loss" in report]
        axes.plot(epochs, [report[metric] for report in run], color=VALIDATION, linewidth=1)
        losses.plot(
            [r["epoch"] for r in with_loss],
            [r["train_loss"] for r in with_loss],
            "--",
            color=LOSS,
            linewidth=0.8,
        )
        if run:
            best = (max if goal == "max" else min)(run, key=lambda report: report[metric])
            axes.plot(best["epoch"], best[metric], "o", color=VALIDATION, markersize=4)
    axes.set_xlabel("epoch", fontsize=8)
    axes.set_ylabel(f"validation {metric}", color=VALIDATION, fontsize=8)
    losses.set_ylabel("training loss (dashed)", color=LOSS, fontsize=8)
    axes.tick_params(labelsize=8)
    losses.tick_params(labelsize=8)
    if not any(runs):
        axes.text(0.5, 0.5, "no epochs", ha="center", transform=axes.transAxes, fontsize=9)
