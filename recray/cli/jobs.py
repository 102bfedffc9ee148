"""What every job script shares: a typed command line in one language, readable errors, log lines.

The first word of whatever needs data is the data set (``--data.dataset``); a choice is called the same in
every job: ``--data.*`` says how data is split and what its events mean, ``--launch.*`` where it runs.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from recray.cli import guarded
from recray.config import ConfigError
from recray.track.console import setup_logging

T = TypeVar("T")
_DATA = ("split", "k-core", "weights", "target", "relevant", "repeats", "seen", "known")
MOVED = {
    "--dataset": "as the first word, or --data.dataset",
    "--protocol": "--data.split",
    "--workers": "--launch.workers",
    **{f"--{name}": f"--data.{name}" for name in _DATA},
}
"""Words that some jobs once had for what others called otherwise."""


def run_job(work: Callable[[T], None], config: type[T], description: str | None) -> None:
    """Parses the command line into ``config`` and does the work; the process ends with its status."""
    _run(work, config, description, sys.argv[1:])


def run_on_data(work: Callable[[T], None], config: type[T], description: str | None) -> None:
    """The same of a job whose first word is a data set."""
    args = sys.argv[1:]
    if args and not args[0].startswith("-"):
        args = ["--data.dataset", *args]
    text = f"{description}\nThe first word is a data set (`recray datasets`) or a path: --data.dataset."
    _run(work, config, text, args)


def _run(work: Callable[[T], None], config: type[T], description: str | None, args: Sequence[str]) -> None:
    setup_logging()

    def parse_and_work() -> None:
        refuse_moved(args)
        work(tyro.cli(config, description=description, args=args))

    raise SystemExit(guarded(parse_and_work))


def refuse_moved(args: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: a word of ``MOVED``; says what is written today.
    """
    for word in args:
        name = word.partition("=")[0].replace("_", "-")
        if name in MOVED:
            raise ConfigError(f"{name} is written {MOVED[name]} in every job")
