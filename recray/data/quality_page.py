"""The quality report as one HTML page that needs no other file and no network."""

import datetime
import html
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from recray.data.clean import Events
from recray.data.quality import Check, Quality
from recray.data.source import ABSOLUTE_TIMES

BLUE, ORANGE, GREY = "#2f6f9f", "#d9822b", "#8a94a0"

_THOUSANDS = StrMethodFormatter("{x:,.0f}")

# Text stays text (small files, selectable); a fixed salt makes the ids, and so the bytes, repeatable.
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recray",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#3b4450",
    "xtick.color": "#3b4450",
    "ytick.color": "#3b4450",
}

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #f4f6f8; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 32px 0 12px; }
.lead { color: #616e7c; margin: 0 0 24px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile, .card { background: #fff; border: 1px solid #e1e6eb; border-radius: 10px; }
.tile { padding: 14px 16px; } .tile b { display: block; font-size: 21px; font-weight: 650; }
.tile span { color: #616e7c; font-size: 13px; }
.card { padding: 8px 16px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } td, th { padding: 8px 10px 8px 0; text-align: left; vertical-align: top; }
tr + tr td { border-top: 1px solid #eef1f4; } th { color: #616e7c; font-weight: 500; font-size: 13px; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.level { display: inline-block; min-width: 58px; text-align: center; border-radius: 99px; font-size: 12px; padding: 1px 9px; }
.ok { background: #e3f4e8; color: #1d6b38; } .note { background: #e6eef7; color: #2c567e; }
.warning { background: #fdeedd; color: #94510c; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 12px; }
figure { margin: 0; padding: 14px 16px 6px; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
"""  # noqa: E501 (one rule per line reads better)


def render(quality: Quality, events: Events) -> str:
    """The page: counts, checks, activity, plots."""
    title = f"{html.escape(quality.name)}: data quality"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{_STYLE}</style></head><body><main>
<h1>{title}</h1>
<p class="lead">{quality.kept:,} of {quality.rows.read:,} raw rows kept. Every figure is over all rows; \
the same numbers are in quality.json.</p>
<div class="tiles">{_tiles(quality)}</div>
<h2>Checks</h2><div class="card"><table>{"".join(map(_check_row, quality.checks))}</table></div>
<h2>Interactions per user and per item</h2><div class="card">{_activity_table(quality)}</div>
<h2>Plots</h2><div class="plots">{_plots(quality, events)}</div>
{_missing_table(quality)}
</main></body></html>
"""


def _tiles(quality: Quality) -> str:
    time, ratings = quality.time, quality.ratings
    tiles = {
        "interactions": f"{quality.kept:,}",
        "users": f"{quality.users.count:,}",
        "items": f"{quality.items.count:,}",
        "density": f"{quality.density:.3%}",
        "mean rating": f"{ratings['mean']:.2f}" if ratings["distinct"] > 1 else "none",
        "first to last": f"{time['first']:.10} – {time['last']:.10}"
        if time["meaning"] == ABSOLUTE_TIMES
        else html.escape(time["meaning"]),
    }
    return "".join(
        f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles.items()
    )


def _check_row(check: Check) -> str:
    level = f'<span class="level {check.level}">{check.level}</span>'
    return f"<tr><td>{level}</td><td>{html.escape(check.name)}</td><td>{html.escape(check.text)}</td></tr>"


def _activity_table(quality: Quality) -> str:
    names = ("fewest", "median", "mean", "most", "Gini", "share of the top 1 %", "share of the top 10 %")
    head = "".join(f'<th class="number">{name}</th>' for name in names)
    rows = []
    for kind, a in (("per user", quality.users), ("per item", quality.items)):
        cells = (
            f"{a.lowest:,}",
            f"{a.median:,.0f}",
            f"{a.mean:,.1f}",
            f"{a.highest:,}",
            f"{a.gini:.2f}",
            f"{a.top_percent_share:.1%}",
            f"{a.top_tenth_share:.1%}",
        )
        rows.append(f"<tr><td>{kind}</td>{''.join(f'<td class=number>{cell}</td>' for cell in cells)}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _missing_table(quality: Quality) -> str:
    if not quality.missing:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(column)}</td><td class=number>{share:.1%}</td></tr>"
        for column, share in quality.missing.items()
    )
    return (
        '<h2>Side columns</h2><div class="card"><table><tr><th>column</th><th class="number">empty</th></tr>'
        f"{rows}</table></div>"
    )


def _plots(quality: Quality, events: Events) -> str:
    users, items = np.bincount(events.user_ids_N), np.bincount(events.item_ids_N)
    plots: dict[str, Callable[[Axes], None]] = {
        "Interactions over time": lambda axes: _draw_time(axes, quality),
        "Long tail: interactions by rank": lambda axes: _draw_ranks(axes, users, items),
        "How many have how many": lambda axes: _draw_activity(axes, users, items),
        "Share of interactions held by the most popular items": lambda axes: _draw_concentration(axes, items),
    }
    if quality.ratings["distinct"] > 1:
        plots["Ratings"] = lambda axes: _draw_ratings(axes, quality)
    return "".join(
        f'<figure class="card"><figcaption>{name}</figcaption>{_svg(draw)}</figure>'
        for name, draw in plots.items()
    )


def _svg(draw: Callable[[Axes], None]) -> str:
    with rc_context(_RC):
        # Fixed margins and plain labels: layout engines and math text cost ten times the drawing.
        figure = Figure(figsize=(5.2, 2.9))
        draw(figure.add_axes((0.19, 0.17, 0.78, 0.79)))
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _logarithmic(set_scale: Callable[[str], None], axis: Axis) -> None:
    set_scale("log")
    axis.set_major_formatter(_THOUSANDS)
    axis.set_minor_locator(NullLocator())


def _draw_time(axes: Axes, quality: Quality) -> None:
    starts, counts = (np.array(quality.time["histogram"][key]) for key in ("starts", "counts"))
    width = float(starts[1] - starts[0]) if len(starts) > 1 else 1.0
    axes.stairs(counts, np.append(starts, starts[-1] + width), color=BLUE, fill=True)
    axes.set_ylabel("interactions")
    axes.yaxis.set_major_formatter(_THOUSANDS)
    if quality.time["meaning"] == ABSOLUTE_TIMES:
        ticks = np.linspace(starts[0], starts[-1] + width, 5)
        days = [datetime.datetime.fromtimestamp(t, datetime.UTC).strftime("%b %Y") for t in ticks]
        axes.set_xticks(ticks, days)
    else:
        axes.set_xlabel(quality.time["meaning"])


def _draw_ranks(axes: Axes, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> None:
    for counts, color, name in ((items, BLUE, "items"), (users, ORANGE, "users")):
        # A few hundred points tell the same as millions on a logarithmic axis.
        ranks = np.unique(np.geomspace(1, len(counts), 300).astype(np.int64))
        axes.plot(ranks, np.sort(counts)[::-1][ranks - 1], color=color, label=name)
    axes.set(xlabel="rank", ylabel="interactions")
    _logarithmic(axes.set_xscale, axes.xaxis)
    _logarithmic(axes.set_yscale, axes.yaxis)
    axes.legend(frameon=False)


def _draw_activity(axes: Axes, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> None:
    top = max(int(users.max()), int(items.max()), 2)
    edges = np.geomspace(1, top + 1, 31)
    for counts, color, name in ((items, BLUE, "items"), (users, ORANGE, "users")):
        heights, _ = np.histogram(counts, bins=edges)
        axes.stairs(heights, edges, color=color, label=name, fill=True, alpha=0.35)
        axes.stairs(heights, edges, color=color)
    axes.set(xlabel="interactions", ylabel="number of users or items")
    _logarithmic(axes.set_xscale, axes.xaxis)
    axes.yaxis.set_major_formatter(_THOUSANDS)
    axes.legend(frameon=False)


def _draw_concentration(axes: Axes, items: npt.NDArray[np.int64]) -> None:
    held = np.cumsum(np.sort(items)[::-1]) / items.sum()
    points = np.unique(np.linspace(0, len(held) - 1, 300).astype(np.int64))
    share = (points + 1) / len(held)
    axes.plot(100 * share, 100 * held[points], color=BLUE)
    axes.fill_between(100 * share, 100 * held[points], color=BLUE, alpha=0.12)
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=":")
    axes.set(
        xlabel="% of items, most popular first", ylabel="% of interactions", xlim=(0, 100), ylim=(0, 102)
    )


def _draw_ratings(axes: Axes, quality: Quality) -> None:
    histogram = quality.ratings["histogram"]
    places = range(len(histogram))
    axes.bar(places, list(histogram.values()), color=BLUE, width=0.8)
    axes.set_xticks(places, list(histogram))
    axes.set(xlabel="rating", ylabel="interactions")
    axes.yaxis.set_major_formatter(_THOUSANDS)
    if len(histogram) > 10:
        axes.tick_params(axis="x", rotation=60, labelsize=8)
