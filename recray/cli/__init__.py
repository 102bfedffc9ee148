"""The ``recray`` command: prepare, train, tune, measure, serve; what is published, and what is live.

What runs for a while is a task: a module with ``main(args)`` that is imported when it is asked for. Scripts
of ``jobs/`` are doors to the same functions.
"""

import ast
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tyro
from rich.table import Table

from recray.cli.commands import GROUPS, Command
from recray.cli.listing import render
from recray.cli.terminal import Terminal
from recray.config import ConfigError, UnavailableError, nearest
from recray.redaction import hidden
from recray.schema import DataError

TRY_AGAIN, PIPE_CLOSED = 75, 141

TASKS = {
    "data": {"prepare": "prepare", "feedback": "feedback"},
    "models": {
        "train": "training",
        "tune": "tune",
        "index": "index",
        "semantic-ids": "assign",
        "extend-decoder": "extend",
        "retrain": "retrain",
    },
    "figures": {
        "evaluate": "evaluate",
        "evaluate-served": "served",
        "experiment": "experiment",
        "compare-links": "links",
        "recbole": "recbole",
    },
    "answers": {
        "serve": "serve",
        "recommend": "recommend",
        "score": "score",
        "demo": "demo",
    },
    "what is served, watched": {
        "console": "console",
        "drift": "drift",
        "business": "business",
        "replay": "replay",
    },
}
"""Heading of the help -> command -> its module in this room."""
_MODULES = {name: module for tasks in TASKS.values() for name, module in tasks.items()}
_HELP = {"-h", "--help"}


def guarded(work: Callable[[], None], *, goes_on: str = "") -> int:
    """Runs a command; what a user can mend is one line on stderr and exit status 2, what may be there when
    the same is asked again (nodes, a cluster) is 75, as sysexits has it.

    Args:
        goes_on: what is said after Ctrl-C of how to take it up again.
    """
    try:
        work()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except UnavailableError as error:
        print(f"unavailable: {hidden(str(error))}", file=sys.stderr)
        return TRY_AGAIN
    except (ConfigError, DataError, OSError) as error:
        print(f"error: {hidden(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; {goes_on}" if goes_on else "stopped", file=sys.stderr)
        return 130
    return 0


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit status."""
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in _HELP:
        return guarded(_explain)
    name = words[0].replace("_", "-")
    if module := _MODULES.get(name):
        status: int = importlib.import_module(f"recray.cli.{module}").main(words[1:])
        return status
    return guarded(lambda: _list(words))


def _list(words: Sequence[str]) -> None:
    listed = [_name(command) for commands in GROUPS.values() for command in commands]
    if words[0] not in listed:
        known = [*_MODULES, *listed]
        raise ConfigError(f"no command {words[0]!r}{nearest(words[0], known)}")
    logging.getLogger("recray").setLevel(logging.WARNING)
    # A union of dataclasses becomes subcommands; tyro's typing does not know unions as forms.
    command: Command = tyro.cli(Command, prog="recray", description=__doc__, args=words)
    listing = command()
    render(listing, command.json)
    if listing.error:
        raise ConfigError(listing.error)


def _explain() -> None:
    """Every command with its one line, under headings."""
    print("usage: recray COMMAND [OPTIONS]; recray COMMAND --help says more")
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for heading, lines in _headings():
        grid.add_row(f"\n[bold]{heading}[/]")
        for name, line in lines:
            grid.add_row(f"  {name}", line)
    Terminal(highlight=False).print(grid)


def _headings() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for heading, tasks in TASKS.items():
        yield heading, [(name, _first_line(module)) for name, module in tasks.items()]
    for heading, commands in GROUPS.items():
        yield heading, [(_name(command), str(command.__doc__).partition("\n")[0]) for command in commands]


def _first_line(module: str) -> str:
    """Of what a task says of itself: read, as importing it would take seconds."""
    text = Path(__file__).with_name(f"{module}.py").read_text()
    return str(ast.get_docstring(ast.parse(text))).partition("\n")[0]


def _name(command: type) -> str:
    return command.__name__.lower()
