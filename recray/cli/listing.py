"""What a command prints: a table for people, the same rows as JSON for programs."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from recray.cli.terminal import Terminal

NAME_SHARE = 0.55
"""Of a line, for names."""


class Listing(NamedTuple):
    """What a command prints: a table for people, the same rows as JSON for programs."""

    title: str
    rows: list[dict[str, Any]]
    columns: tuple[str, ...] = ()  # of the table; none: all
    group: str = ""  # the column by whose values rows stand under headings; "": one table
    error: str = ""  # what is said after it, with the exit status of an error


def render(listing: Listing, as_json: bool) -> None:
    if as_json:
        print(json.dumps(listing.rows, indent=2))
        return
    if not listing.rows:
        print(f"{listing.title}: none")
        return
    headings = list(dict.fromkeys(row[listing.group] for row in listing.rows)) if listing.group else [""]
    for heading in headings:
        rows = [row for row in listing.rows if not listing.group or row[listing.group] == heading]
        _print_table(listing.title, heading, listing.columns or tuple(rows[0]), rows)
    if len(headings) > 1:
        Terminal().print("Figures under different headings are not comparable.")


def _print_table(title: str, heading: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left")
    if heading:
        Terminal().print(f"\n{escape(heading)}", highlight=False)
        table.title = None
    names = [line for row in rows for line in _cell(row[columns[0]]).splitlines()]
    terminal = Terminal()
    whole = min(
        int(NAME_SHARE * terminal.width), max(map(len, names), default=0)
    )  # names are for copying: others give way to them
    for column in columns:
        width = whole if column == columns[0] else None
        table.add_column(column.replace("_", " "), overflow="fold", min_width=width)
    for row in rows:
        table.add_row(*(escape(_cell(row[column])) for column in columns))
    terminal.print(table)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name} {_cell(v)}" for name, v in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
