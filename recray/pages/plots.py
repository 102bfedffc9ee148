"""Plots of the house: as SVG within a page, as PNG beside it; one look for both."""

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from recray.arrays import Float64s
from recray.pages.palette import GREY, INK, RED, SERIES, TONES

THOUSANDS = StrMethodFormatter("{x:,.0f}")

# Text stays text (small files, selectable); a fixed salt makes the ids, and so the bytes, repeatable.
_LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recray",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a name is one
    "xtick.color": INK,
    "ytick.color": INK,
}
# A page in the dark draws the same picture in its own colours.
_VARIABLES = {
    tone.light: f"var(--{name})" for name, tone in TONES.items() if tone.light in (INK, RED, *SERIES)
}

# On a page that is none of ours, such as a notebook's, a plot brings the colours that it names.
_OWN_TONES = "; ".join(f"--{name}: light-dark({tone.light}, {tone.dark})" for name, tone in TONES.items())

Draw = Callable[[Axes], None]


def svg(draw: Draw, title: str = "") -> str:
    """What ``draw`` puts on its axes, as an element of a page.

    Args:
        title: what it shows, for who cannot see it.
    """
    with rc_context(_LOOK):
        # Fixed margins and plain labels: layout engines and math text cost ten times the drawing.
        figure = Figure(figsize=(5.2, 2.9))
        draw(figure.add_axes((0.19, 0.17, 0.76, 0.79)))
        text = io.StringIO()
        metadata = {"Date": None, "Creator": None} | ({"Title": title} if title else {})
        figure.savefig(text, format="svg", transparent=True, metadata=metadata)
    found = text.getvalue()[text.getvalue().index("<svg") :]
    for color, variable in _VARIABLES.items():
        found = found.replace(color, variable)
    return found


class Picture:
    """A plot that a notebook shows, in the colours of the page that it stands on.

    It is drawn at once: a program in which nobody looks at it fails where the drawing does.
    """

    def __init__(self, draw: Draw, title: str) -> None:
        """
        Args:
            title: stands above it.
        """
        self.title = title
        self._svg = svg(draw, title).replace("<svg", '<svg style="width: 100%; height: auto"', 1)

    def __repr__(self) -> str:
        return f"plot: {self.title}"

    def _repr_html_(self) -> str:
        look = "max-width: 560px; margin: 12px 0; padding: 12px 14px 4px; border-radius: 10px"
        colors = "background: var(--card); color: var(--ink); border: 1px solid var(--line)"
        caption = f'<figcaption style="font-weight: 600">{html.escape(self.title)}</figcaption>'
        return f'<figure style="{_OWN_TONES}; {look}; {colors}">{caption}{self._svg}</figure>'


def panels(
    path: Path,
    plots: Sequence[tuple[str, Draw]],
    *,
    title: str = "",
    columns: int = 3,
    size: tuple[float, float] = (4.2, 3.0),
) -> None:
    """A PNG of plots beside and below each other, each under its name."""
    columns = max(1, min(columns, len(plots)))
    lines = max(1, -(-len(plots) // columns))
    with rc_context(_LOOK):
        figure = Figure((0.4 + size[0] * columns, 0.6 + size[1] * lines), layout="constrained")
        for place, (name, draw) in enumerate(plots):
            axes = figure.add_subplot(lines, columns, place + 1)
            axes.set_title(name)
            draw(axes)
        if title:
            figure.suptitle(title)
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png", dpi=120)


def logarithmic(axis: Axis) -> None:
    """A scale by powers of ten, whose numbers are written out."""
    (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
    axis.set_major_formatter(THOUSANDS)
    axis.set_minor_locator(NullLocator())


def dated(axis: Axis, seconds_N: Float64s) -> Float64s:
    """Days for unix seconds on an axis that names years, months, days or hours, as fits the span."""
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]
    axis.set_major_formatter(formatter)
    return np.asarray(seconds_N, np.float64) / 86_400.0
