"""A report as one HTML page that needs no other file and no network: tiles, checks, tables, plots."""

import html
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from recray.data.report.check import Check

BLUE, ORANGE, GREY = "#2f6f9f", "#d9822b", "#8a94a0"

THOUSANDS = StrMethodFormatter("{x:,.0f}")

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


def page(
    name: str,
    lead: str,
    tiles: Mapping[str, str],
    checks: Iterable[Check],
    sections: str,
    about: str = "data quality",
) -> str:
    """``lead``, the tiles' texts and ``sections`` are HTML."""
    title = f"{html.escape(name)}: {about}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{_STYLE}</style></head><body><main>
<h1>{title}</h1>
<p class="lead">{lead}</p>
<div class="tiles">{"".join(_tile(label, value) for label, value in tiles.items())}</div>
<h2>Checks</h2><div class="card"><table>{"".join(map(_check_row, checks))}</table></div>
{sections}
</main></body></html>
"""


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A card whose first column is text and whose others are numbers; cells are escaped here."""
    names = "".join(f'<th class="number">{html.escape(name)}</th>' for name in list(head)[1:])
    body = ""
    for first, *cells in rows:
        numbers = "".join(f"<td class=number>{html.escape(cell)}</td>" for cell in cells)
        body += f"<tr><td>{html.escape(first)}</td>{numbers}</tr>"
    first_name = html.escape(next(iter(head)))
    return (
        f'<h2>{title}</h2><div class="card"><table><tr><th>{first_name}</th>{names}</tr>{body}</table></div>'
    )


def figures(plots: Mapping[str, Callable[[Axes], None]]) -> str:
    drawn = "".join(
        f'<figure class="card"><figcaption>{name}</figcaption>{_svg(draw)}</figure>'
        for name, draw in plots.items()
    )
    return f'<h2>Plots</h2><div class="plots">{drawn}</div>'


def _tile(label: str, value: str) -> str:
    return f'<div class="tile"><b>{value}</b><span>{label}</span></div>'


def _check_row(check: Check) -> str:
    level = f'<span class="level {check.level}">{check.level}</span>'
    return f"<tr><td>{level}</td><td>{html.escape(check.name)}</td><td>{html.escape(check.text)}</td></tr>"


def _svg(draw: Callable[[Axes], None]) -> str:
    with rc_context(_RC):
        # Fixed margins and plain labels: layout engines and math text cost ten times the drawing.
        figure = Figure(figsize=(5.2, 2.9))
        draw(figure.add_axes((0.19, 0.17, 0.78, 0.79)))
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
