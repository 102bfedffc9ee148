"""How results are shown: as text on a terminal, as HTML in a notebook; the same tables."""

import io
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

WIDTH = 120
_HTML = '<pre style="line-height: 1.2; overflow-x: auto">{code}</pre>'


class Shown:
    """Whatever says of itself which tables it is."""

    def shown(self) -> Iterator[Table]:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._printed().export_text().rstrip()

    def _repr_html_(self) -> str:
        return self._printed().export_html(inline_styles=True, code_format=_HTML)

    def _printed(self) -> Console:
        # In a kernel Rich would show each table itself, beside what the kernel makes of our text.
        console = Console(record=True, file=io.StringIO(), width=WIDTH, force_jupyter=False)
        for table in self.shown():
            console.print(table)
        return console
