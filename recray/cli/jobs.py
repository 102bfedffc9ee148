"""What every job script shares: a typed command line, readable errors, log lines."""

from collections.abc import Callable
from typing import TypeVar

import tyro

from recray.cli import guarded
from recray.track.console import setup_logging

T = TypeVar("T")


def run_job(work: Callable[[T], None], config: type[T], description: str | None) -> None:
    """Parses the command line into ``config`` and does the work; the process ends with its status."""
    setup_logging()
    raise SystemExit(guarded(lambda: work(tyro.cli(config, description=description))))
