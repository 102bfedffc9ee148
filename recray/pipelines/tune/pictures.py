"""A search as pictures: PNGs, and one page of HTML that needs no network.

Learning curves of all trials, parallel coordinates, importances, and the expected best (Dodge et al. 2019).
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from recray.arrays import Float64s
from recray.launch.tune_domains import Choice, Numbers
from recray.pages.check import Check, check
from recray.pages.page import page
from recray.pages.palette import BLUE, GREEN, GREY, ORANGE
from recray.pipelines.tune.expected import by_trial, expected_best, running_best
from recray.pipelines.tune.records import TrialRecord
from recray.pipelines.tune.search import Found

BEST, OTHER, STOPPED, BASE = ORANGE, BLUE, GREY, GREEN
BEST_FILE = "best.json is the best run, which every training job takes"
BAND, CLEAR, LEGIBLE = "rgba(138, 148, 160, 0.35)", "rgba(0, 0, 0, 0)", "#7d8894"  # on either ground
LIBRARY = "plotly.min.js"
"""One copy beside the page."""


def draw(found: Found) -> list[Path]:
    """Writes all of it into the search's folder; returns the files."""
    made = {
        "curves": _curves(found),
        "expected": _expected(found),
        "parallel": _parallel(found),
        "importances": _importances(found),
    }
    paths = [found.folder / f"{name}.png" for name in made]
    for figure, path in zip(made.values(), paths, strict=True):
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png", dpi=120)
    web = found.folder / "search.html"
    (found.folder / LIBRARY).write_text(get_plotlyjs())
    web.write_text(_page(found))
    return [*paths, web]


class _Look(NamedTuple):
    """How a trial is drawn."""

    color: str
    name: str


def _look(found: Found, number: int, status: str) -> _Look:
    if number == found.best.number:
        return _Look(BEST, "best")
    if number == 0:
        return _Look(BASE, "preset")
    return _Look(STOPPED if status == "stopped" else OTHER, status)


def _titled(found: Found, title: str, size: tuple[float, float] = (7.0, 4.0)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"{found.name}: {title}", fontsize=10)
    axes.tick_params(labelsize=8)
    return figure, axes


def _curves(found: Found) -> Figure:
    """Worst first, so that the best is on top."""
    figure, axes = _titled(found, "learning curves")
    metric, named = found.space.goal.metric, set[str]()
    for record in reversed(found.records):
        run = found.curves[record.number]
        look = _look(found, record.number, record.status)
        label = "" if look.name in named else look.name
        named.add(look.name)
        marker = "o" if len(run) == 1 else None
        epochs, values = [r["epoch"] for r in run], [r[metric] for r in run]
        width = 2 if look.name in ("best", "preset") else 0.8
        axes.plot(epochs, values, color=look.color, linewidth=width, marker=marker, markersize=4, label=label)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(str(found.space.goal), fontsize=9)
    axes.legend(fontsize=8)
    return figure


def _expected(found: Found) -> Figure:
    figure, axes = _titled(found, "expected best against trials")
    goal = found.space.goal
    in_order = by_trial(sorted(found.records, key=lambda record: record.number), goal)
    expected, n_N = expected_best(in_order, goal), np.arange(1, len(in_order) + 1)
    axes.fill_between(n_N, expected.low_N, expected.high_N, color=STOPPED, alpha=0.4, label="± 1 std")
    axes.plot(n_N, expected.best_N, color=OTHER, label="expected best of n (Dodge et al. 2019)")
    axes.step(n_N, running_best(in_order, goal), where="post", color=BEST, label="found, in this order")
    axes.set_xlabel("trials", fontsize=9)
    axes.set_ylabel(str(goal), fontsize=9)
    axes.legend(fontsize=8)
    return figure


def _parallel(found: Found) -> Figure:
    """A vertical axis for each setting, a line for each trial; darker is better."""
    paths, goal = list(found.space.ranges()), found.space.goal
    figure, axes = _titled(found, "settings of all trials", (1.6 * len(paths) + 2.2, 4.2))
    records = [record for record in reversed(found.records) if record.score is not None]
    scores = np.array([record.score for record in records], np.float64)
    low, high = float(scores.min()), float(scores.max())
    places = [_place(found, path, records) for path in paths] + [(scores - low) / ((high - low) or 1.0)]
    worth = places[-1] if goal.mode == "max" else 1 - places[-1]
    for n in range(len(records)):
        color = BEST if n == len(records) - 1 else str(0.85 - 0.75 * worth[n])
        width = 2.2 if n == len(records) - 1 else 1.0
        axes.plot(range(len(places)), [place[n] for place in places], color=color, linewidth=width)
    for x, path in enumerate(paths):
        axes.axvline(x, color="black", linewidth=0.6)
        for y, text in _ticks(found, path):
            axes.text(
                x + 0.03, y, text, fontsize=7, va="center", bbox={"color": "white", "alpha": 0.7, "pad": 0.5}
            )
    axes.axvline(len(paths), color="black", linewidth=0.6)
    for y, value in ((0.0, low), (1.0, high)):
        axes.text(len(paths) + 0.03, y, f"{value:.4f}", fontsize=7, va="center")
    axes.set_xticks(range(len(places)), [*paths, goal.metric], fontsize=8, rotation=12)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(paths) + 0.5)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _place(found: Found, path: str, records: Sequence[TrialRecord]) -> Float64s:
    """Where each trial's value stands on its axis, 0 to 1; what lies outside the space at its edge."""
    domain, values = found.space.ranges()[path], [record.changes[path] for record in records]
    if isinstance(domain, Choice):
        labels = [_text(value) for value in domain.values]
        last = max(1, len(labels) - 1)
        return np.array([labels.index(_text(v)) / last if _text(v) in labels else 0.0 for v in values])
    places_R, ends = np.asarray(values, np.float64), np.array([domain.low, domain.high])
    if domain.log:
        places_R, ends = np.log(np.maximum(places_R, domain.low)), np.log(ends)
    clipped_R: Float64s = np.clip((places_R - ends[0]) / (ends[1] - ends[0]), 0, 1)
    return clipped_R


def _ticks(found: Found, path: str) -> list[tuple[float, str]]:
    domain = found.space.ranges()[path]
    if isinstance(domain, Choice):
        last = max(1, len(domain.values) - 1)
        return [(n / last, _text(value)) for n, value in enumerate(domain.values)]
    assert isinstance(domain, Numbers)
    middle = float(np.sqrt(domain.low * domain.high)) if domain.log else (domain.low + domain.high) / 2
    return [(0.0, f"{domain.low:g}"), (0.5, f"{middle:.2g}"), (1.0, f"{domain.high:g}")]


def _text(value: object) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def _importances(found: Found) -> Figure:
    shares = found.study.importances()
    figure, axes = _titled(found, "what the score depended on", (7.0, 1.2 + 0.35 * max(3, len(shares))))
    if not shares:
        axes.text(0.5, 0.5, "too few trials, or all alike", ha="center", transform=axes.transAxes, fontsize=9)
        axes.set_axis_off()
        return figure
    names = list(shares)[::-1]
    bars = axes.barh(names, [shares[name] for name in names], color=OTHER)
    axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=3)
    axes.set_xlim(0, 1.1 * max(shares.values()) or 1.0)
    axes.set_xlabel("share of the spread of the scores (fANOVA)", fontsize=9)
    return figure


def _page(found: Found) -> str:
    study, metric = found.study.study, found.space.goal.metric
    figures = [("Learning curves", _curves_page(found)), ("Expected best", _expected_page(found))]
    parallel = optuna.visualization.plot_parallel_coordinate(study, target_name=metric)
    figures.append(("Settings of all trials", parallel))
    if shares := found.study.importances():
        bars = go.Bar(
            x=list(shares.values())[::-1], y=list(shares)[::-1], orientation="h", marker_color=OTHER
        )
        figures.append(("What the score depended on (fANOVA)", go.Figure(bars)))
    parts = [f'<script src="{LIBRARY}"></script>']
    for title, figure in figures:
        figure.update_layout(
            title=None,
            template="plotly_white",
            margin={"t": 30, "b": 50},
            paper_bgcolor=CLEAR,
            plot_bgcolor=CLEAR,
            font_color=LEGIBLE,
        )
        figure.update_xaxes(gridcolor=BAND).update_yaxes(gridcolor=BAND)
        drawn = figure.to_html(full_html=False, include_plotlyjs=False)
        parts.append(f'<h2>{title}</h2><div class="card">{drawn}</div>')
    lead = html.escape(f"{found.space.goal} of {found.model}; {BEST_FILE}")
    return page(found.name, lead, _tiles(found), _checks(found), "\n".join(parts), about="search")


def _tiles(found: Found) -> dict[str, str]:
    preset = next((record.score for record in found.records if record.number == 0), None)
    said = {"best": found.best.score, "preset": preset}
    epochs = sum(record.epochs for record in found.records)
    counted = {"trials": f"{len(found.records)}", "epochs": f"{epochs:,}"}
    return {
        **{name: "?" if score is None else f"{score:.4f}" for name, score in said.items()},
        **counted,
        "hours of trials": f"{sum(record.duration_s for record in found.records) / 3600:.2f}",
    }


def _checks(found: Found) -> list[Check]:
    failed = [f"trial {r.number}: {r.reason}" for r in found.records if r.status == "failed"]
    stopped = sum(record.status == "stopped" for record in found.records)
    return [
        check("failed", "; ".join(failed), fine="no trial failed", warning=bool(failed)),
        Check(name="stopped", level="note", text=f"{stopped} trials were stopped early, as they were behind"),
        check(
            "best",
            "the run that the search started from stands",
            fine=f"trial {found.best.number} is better than the run that the search started from",
            note=found.best.number == 0,
        ),
    ]


def _curves_page(found: Found) -> go.Figure:
    figure, metric = go.Figure(), found.space.goal.metric
    for record in reversed(found.records):
        run = found.curves[record.number]
        look = _look(found, record.number, record.status)
        told = "<br>".join(f"{path} {value}" for path, value in record.changes.items())
        figure.add_scatter(
            x=[report["epoch"] for report in run],
            y=[report[metric] for report in run],
            mode="lines+markers",
            line={"color": look.color, "width": 3 if look.name in ("best", "preset") else 1},
            name=f"trial {record.number}, {look.name}",
            hovertemplate=f"trial {record.number}, {record.status}<br>epoch %{{x}}: %{{y:.4f}}<br>{told}",
        )
    return figure.update_layout(xaxis_title="epoch", yaxis_title=str(found.space.goal))


def _expected_page(found: Found) -> go.Figure:
    goal = found.space.goal
    in_order = by_trial(sorted(found.records, key=lambda record: record.number), goal)
    expected, n = expected_best(in_order, goal), list(range(1, len(in_order) + 1))
    figure = go.Figure()
    edge = {"x": n, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(y=expected.high_N, showlegend=False, **edge)
    figure.add_scatter(y=expected.low_N, fill="tonexty", fillcolor=BAND, name="± 1 std", **edge)
    figure.add_scatter(
        x=n, y=expected.best_N, line={"color": OTHER}, name="expected best of n (Dodge et al. 2019)"
    )
    found_so_far = running_best(in_order, goal)
    figure.add_scatter(x=n, y=found_so_far, line={"color": BEST, "shape": "hv"}, name="found, in this order")
    return figure.update_layout(xaxis_title="trials", yaxis_title=str(goal))
