"""Where tables are printed."""

import os
import sys

from rich.console import Console

LOG_WIDTH = 120
"""Columns where output is no terminal: a job's log, a file, a pipe; COLUMNS names others."""


class Terminal(Console):
    """A reader that has read enough (`| head`) is told to ``guarded``, and ends nothing here."""

    def __init__(self, *, highlight: bool = True) -> None:
        narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
        super().__init__(width=None if narrow else LOG_WIDTH, highlight=highlight)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
