"""What every job script shares: presets as subcommands, readable errors, log lines."""

from collections.abc import Callable
from typing import Any, TypeVar

import tyro

from recray.cli import guarded
from recray.track.console import setup_logging

T = TypeVar("T")


def run_job(work: Callable[[T], None], config: type[T], description: str | None) -> None:
    """Parses the command line into ``config`` and does the work; the process ends with its status."""
    setup_logging()
    raise SystemExit(guarded(lambda: work(tyro.cli(config, description=description))))


def run_preset_job(
    work: Callable[[Any], None], presets: dict[str, tuple[str, Any]], description: str | None
) -> None:
    """As ``run_job``, with each preset as a subcommand whose fields can be changed one by one."""
    setup_logging()
    raise SystemExit(
        guarded(lambda: work(tyro.extras.overridable_config_cli(presets, description=description)))
    )
