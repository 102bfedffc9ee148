"""The quality report of a data set of interactions as one HTML page."""

import html

import numpy as np
from matplotlib.axes import Axes

from recray.arrays import Int64s
from recray.data.events.clean import InteractionArrays
from recray.data.events.quality import Quality, occurrences
from recray.data.source import ABSOLUTE_TIMES
from recray.pages.page import figures, page, table
from recray.pages.palette import BLUE, GREY, ORANGE
from recray.pages.plots import THOUSANDS, Draw, dated, logarithmic


def render(quality: Quality, events: InteractionArrays) -> str:
    """The page: counts, checks, activity, plots."""
    lead = (
        f"{quality.kept:,} of {quality.rows.read:,} raw rows kept. Every figure is over all rows; "
        "the same numbers are in quality.json."
    )
    sections = [*_notes(quality), _activity_table(quality), figures(_plots(quality, events))]
    if quality.missing:
        shares = [(column, f"{share:.1%}") for column, share in quality.missing.items()]
        sections.append(table("Side columns", ("column", "empty"), shares))
    return page(quality.name, lead, _tiles(quality), quality.checks, "\n".join(sections))


def _notes(quality: Quality) -> list[str]:
    lines = "".join(f"<tr><td>{html.escape(note)}</td></tr>" for note in quality.notes)
    return [f'<h2>As it was read</h2><div class="card"><table>{lines}</table></div>'] if lines else []


def _tiles(quality: Quality) -> dict[str, str]:
    time, ratings = quality.time, quality.ratings
    return {
        "interactions": f"{quality.kept:,}",
        "users": f"{quality.users.count:,}",
        "items": f"{quality.items.count:,}",
        "density": f"{quality.density:.3%}",
        "mean rating": f"{ratings['mean']:.2f}" if ratings["distinct"] > 1 else "none",
        "first to last": f"{time['first']:.10} –<br>{time['last']:.10}"
        if time["meaning"] == ABSOLUTE_TIMES
        else html.escape(time["meaning"]),
    }


def _activity_table(quality: Quality) -> str:
    head = ("", "fewest", "median", "mean", "most", "Gini", "share of the top 1 %", "share of the top 10 %")
    rows = [
        (
            kind,
            f"{a.lowest:,}",
            f"{a.median:,.0f}",
            f"{a.mean:,.1f}",
            f"{a.highest:,}",
            f"{a.gini:.2f}",
            f"{a.top_percent_share:.1%}",
            f"{a.top_tenth_share:.1%}",
        )
        for kind, a in (("per user", quality.users), ("per item", quality.items))
    ]
    return table("Interactions per user and per item", head, rows)


def _plots(quality: Quality, events: InteractionArrays) -> dict[str, Draw]:
    users = occurrences(events.user_ids_N, quality.users.count)
    items = occurrences(events.item_ids_N, quality.items.count)
    plots: dict[str, Draw] = {
        "Interactions over time": lambda axes: _draw_time(axes, quality),
        "Long tail: interactions by rank": lambda axes: _draw_ranks(axes, users, items),
        "How many have how many": lambda axes: _draw_activity(axes, users, items),
        "Share of interactions held by the most popular items": lambda axes: _draw_concentration(axes, items),
    }
    if quality.ratings["distinct"] > 1:
        plots["Ratings"] = lambda axes: _draw_ratings(axes, quality)
    return plots


def _draw_time(axes: Axes, quality: Quality) -> None:
    starts, counts = (np.array(quality.time["histogram"][key]) for key in ("starts", "counts"))
    width = float(starts[1] - starts[0]) if len(starts) > 1 else 1.0
    edges = np.append(starts, starts[-1] + width)
    is_absolute = quality.time["meaning"] == ABSOLUTE_TIMES
    axes.stairs(counts, dated(axes.xaxis, edges) if is_absolute else edges, color=BLUE, fill=True)
    axes.set_ylabel("interactions")
    axes.yaxis.set_major_formatter(THOUSANDS)
    if not is_absolute:
        axes.set_xlabel(quality.time["meaning"])


def _draw_ranks(axes: Axes, users: Int64s, items: Int64s) -> None:
    for counts, color, name in ((items, BLUE, "items"), (users, ORANGE, "users")):
        # A few hundred points tell the same as millions on a logarithmic axis.
        ranks = np.unique(np.geomspace(1, len(counts), 300).astype(np.int64))
        axes.plot(ranks, np.sort(counts)[::-1][ranks - 1], color=color, label=name)
    axes.set(xlabel="rank", ylabel="interactions")
    logarithmic(axes.xaxis)
    logarithmic(axes.yaxis)
    axes.legend()


def _draw_activity(axes: Axes, users: Int64s, items: Int64s) -> None:
    top = max(int(users.max()), int(items.max()), 2)
    edges = np.geomspace(1, top + 1, 31)
    for counts, color, name in ((items, BLUE, "items"), (users, ORANGE, "users")):
        heights, _ = np.histogram(counts, bins=edges)
        axes.stairs(heights, edges, color=color, label=name, fill=True, alpha=0.35)
        axes.stairs(heights, edges, color=color)
    axes.set(xlabel="interactions", ylabel="number of users or items")
    logarithmic(axes.xaxis)
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.legend()


def _draw_concentration(axes: Axes, items: Int64s) -> None:
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
    drawn = axes.bar(places, list(histogram.values()), color=BLUE, width=0.8)
    axes.set_xticks(places, list(histogram))
    axes.set(xlabel="rating", ylabel="interactions")
    axes.yaxis.set_major_formatter(THOUSANDS)
    if len(histogram) <= 5:
        axes.bar_label(drawn, fmt="{:,.0f}", fontsize=9)
    if len(histogram) > 10:
        axes.tick_params(axis="x", rotation=60, labelsize=8)
