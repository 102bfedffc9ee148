"""A look at drift as one HTML page: alarms, how far each feature moved, and the bars of what moved most."""

import html
from datetime import UTC, datetime
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from recray.monitor.drift_report import DriftReport, FeatureDrift, Histogram
from recray.pages.check import Check
from recray.pages.page import figures, page, table
from recray.pages.palette import BLUE, GREY, ORANGE
from recray.pages.plots import Draw

DRAWN = 8  # histograms


def render(report: DriftReport) -> str:
    """The page; it says the same as ``report.to_json``."""
    tested = [one for one in report.features if one.tests]
    tiles = {
        "alarms": str(len(report.standing)) if report.against else "–",
        "features compared": f"{len(tested):,}",
        "shown items": f"{report.window.rows:,}",
        "answers": f"{report.window.answers:,}",
        "users": f"{report.window.users:,}",
    }
    plots: dict[str, Draw] = {}
    if tested:
        plots["How far each moved; beyond 1 it alarms"] = partial(_draw_distances, features=tested)
    plots |= {
        html.escape(one.name): partial(_draw_bars, bars=one.histogram)
        for one in tested[:DRAWN]
        if one.histogram and one.histogram.labels
    }
    sections = [_tests(tested), figures(plots) if plots else ""]
    if report.figures:
        rows = [
            (name, *(f"{found[side]:.4g}" if side in found else "–" for side in ("reference", "window")))
            for name, found in report.figures.items()
        ]
        sections.append(table("Lists", ("", "reference", "window"), rows))
    return page(report.application, _lead(report), tiles, _checks(report), "\n".join(sections), "drift")


def _lead(report: DriftReport) -> str:
    ends = f"{_day(report.window.since)} to {_day(report.window.until)} UTC"
    against = f", compared with its {report.against}" if report.against else ""
    return html.escape(
        f"{report.version or 'nothing was shown'}, {ends}{against}. {'. '.join(report.sentences)}"
    )


def _checks(report: DriftReport) -> list[Check]:
    def since(at: float) -> str:
        return f" (since {_day(at)} UTC)"

    standing = [
        Check(name=one.name, level="warning", text=one.sentence + since(one.since)) for one in report.standing
    ]
    cleared = [
        Check(name=one.name, level="ok", text=f"cleared, {one.why_over(report.version)}: {one.sentence}")
        for one in report.cleared
    ]
    unknown = [Check(name=one.name, level="note", text=one.note) for one in report.features if one.note]
    calm = Check(
        name="drift",
        level="ok" if report.against else "note",
        text="nothing moved by more than chance"
        if report.against
        else "there is nothing to compare with yet",
    )
    return [*(standing or [calm]), *cleared, *unknown]


def _tests(features: list[FeatureDrift]) -> str:
    head = ("what", "group", "test", "statistic", "threshold", "chance", "reference", "window", "missing")
    return table("What was compared", head, map(_row, features)) if features else ""


def _row(one: FeatureDrift) -> tuple[str, ...]:
    worst = one.tests[0]

    def told(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    missing = f"{one.missing_reference:.1%} → {one.missing_window:.1%}"
    figures_of = (worst.statistic, worst.threshold, worst.p_value, one.reference, one.window)
    return (one.name, one.group, worst.test, *map(told, figures_of), missing)


def _draw_distances(axes: Axes, features: list[FeatureDrift]) -> None:
    shown = sorted(features, key=_distance, reverse=True)[:12]
    values = [_distance(one) for one in shown]
    colors = [ORANGE if one.raised or one.alarm else BLUE for one in shown]
    drawn = axes.barh(range(len(shown)), np.minimum(values, 3), color=colors, height=0.7)
    axes.bar_label(drawn, [f"{value:.2g}" for value in values], padding=3, fontsize=8)
    axes.axvline(1, color=GREY, linestyle=":")
    axes.set_yticks(range(len(shown)), [_short(one.name) for one in shown], fontsize=8)
    axes.set_xlim(0, 3.4)
    axes.set_ylim(max(len(shown), 6) - 0.5, -0.5)


def _distance(one: FeatureDrift) -> float:
    worst = one.tests[0]
    return worst.statistic / worst.threshold if worst.threshold else 0.0


def _draw_bars(axes: Axes, bars: Histogram) -> None:
    places = np.arange(len(bars.labels))
    axes.bar(places - 0.2, bars.reference, 0.4, color=GREY, label="reference")
    axes.bar(places + 0.2, bars.window, 0.4, color=BLUE, label="window")
    step = -(-len(bars.labels) // 8)
    axes.set_xticks(places[::step], [_short(label) for label in bars.labels[::step]], fontsize=8)
    if len(bars.labels) > 4:
        axes.tick_params(axis="x", rotation=30)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.margins(y=0.25)
    axes.legend(ncols=2)


def _short(text: str, letters: int = 14) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %Y %H:%M")
