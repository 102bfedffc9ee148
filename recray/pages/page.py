"""A report as one HTML page that needs no other file and no network: tiles, checks, tables, plots."""

import html
from collections.abc import Iterable, Mapping

from recray.pages.check import Check
from recray.pages.palette import SHEET
from recray.pages.plots import Draw, svg


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
<title>{title}</title><style>{SHEET}</style></head><body><main>
<h1>{title}</h1>
<p class="lead">{lead}</p>
<div class="tiles" style="--columns: {_columns(len(tiles))}">{"".join(map(_tile, tiles.items()))}</div>
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


def figures(plots: Mapping[str, Draw]) -> str:
    drawn = "".join(
        f'<figure class="card"><figcaption>{name}</figcaption>{svg(draw, name)}</figure>'
        for name, draw in plots.items()
    )
    return f'<h2>Plots</h2><div class="plots">{drawn}</div>'


def _columns(tiles: int) -> int:
    """As many as leave no tile alone in a line."""
    lines = -(-tiles // 6) or 1
    return -(-tiles // lines) or 1


def _tile(tile: tuple[str, str]) -> str:
    label, value = tile
    size = ' class="long"' if len(value) > 12 else ""
    return f'<div class="tile"><b{size}>{value}</b><span>{label}</span></div>'


def _check_row(check: Check) -> str:
    level = f'<span class="level {check.level}">{check.level}</span>'
    return f"<tr><td>{level}</td><td>{html.escape(check.name)}</td><td>{html.escape(check.text)}</td></tr>"
