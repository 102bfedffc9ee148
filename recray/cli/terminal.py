"""Where tables are printed."""

from rich.console import Console


class Terminal(Console):
    """A reader that has read enough (`| head`) is told to ``guarded``, and ends nothing here."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
