"""A run as one HTML page: how it ended, its curves, what it reached under which card, its settings."""

import html
import time
from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recray.pages.check import Check, Level
from recray.pages.page import figures, page, table
from recray.pages.palette import BLUE, ORANGE
from recray.track.history import by_epoch
from recray.track.record import Outcome, RunFolder

_LEVELS: dict[str, Level] = {"finished": "ok", "failed": "warning", "lost": "warning", "stopped": "note"}


def render(run: RunFolder) -> str:
    """The page of a run that goes on, too: it is what is known now."""
    reports, outcome, settings, metric = run.reports(), run.outcome(), run.settings(), run.metric()
    best, last = run.best(), reports[-1] if reports else {}
    tiles: dict[str, str] = {"state": outcome.state if outcome else "open"}
    if metric in best:
        tiles[f"validation {metric}, best"] = f"{best[metric]:.4f}"
        tiles["best epoch"] = f"{best['epoch']:.0f} of {last['epoch']:.0f}"
    if "wall_s" in last:
        tiles["minutes"] = f"{last['wall_s'] / 60:.1f}"
    if "dollars" in last:
        tiles["dollars"] = f"{last['dollars']:.2f}"
    if outcome and outcome.reference:
        tiles["published"] = html.escape(outcome.reference.partition(" (")[0])
    epochs = by_epoch(reports, metric) if metric else []
    curves = {
        name: partial(_draw, points=points, best=best.get("epoch") if field == metric else None)
        for field, name in ((metric, f"Validation {metric}"), ("train_loss", "Training loss"))
        if (points := [(each["epoch"], each[field]) for each in epochs if field in each])
    }
    sections = [
        figures(curves) if curves else "",
        *(_measured(outcome) if outcome else ()),
        table("Settings", ("setting", "value"), _rows(settings)),
    ]
    lead = f"As of {time.strftime('%d %b %Y %H:%M', time.gmtime())} UTC."
    return page(run.name, lead, tiles, [_ended(outcome)], "\n".join(sections), "run")


def _draw(axes: Axes, points: Sequence[tuple[float, float]], best: float | None) -> None:
    axes.plot(*zip(*points, strict=True), color=BLUE, marker="o", markersize=3)
    for epoch, value in points:
        if epoch == best:
            axes.plot(epoch, value, "o", color=ORANGE, markersize=8)
            axes.annotate(f"{value:.4f}", (epoch, value), (0, 8), textcoords="offset points", ha="center")
    axes.margins(y=0.15)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _ended(outcome: Outcome | None) -> Check:
    if outcome is None:
        return Check(name="end", level="note", text="it goes on, or nobody was left to say how it ended")
    return Check(name="end", level=_LEVELS[outcome.state], text=outcome.said or outcome.state)


def _measured(outcome: Outcome) -> list[str]:
    if not outcome.metrics:
        return []
    metrics = [(name, f"{value:.4f}") for name, value in outcome.metrics.items()]
    card = table("Measured under", ("", "card"), _rows(outcome.card)) if outcome.card else ""
    return [table("On the test part", ("metric", "value"), metrics), card]


def _rows(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in values.items() if value not in (None, "", {}, [], ())]
