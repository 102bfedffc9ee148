"""The door of the search's job: says what is missing before anything heavy is imported."""

import sys
from importlib.util import find_spec

from recray.cli import guarded
from recray.config import ConfigError
from recray.track.console import setup_logging

NEEDED = ("optuna", "plotly")


def run_tuning(description: str | None) -> None:
    """Does all of it; the process then ends with its status."""
    setup_logging()
    raise SystemExit(guarded(lambda: _work(sys.argv[1:], description)))


def _work(args: list[str], description: str | None) -> None:
    """
    Raises:
        ConfigError: what a search needs is not installed.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(f"a search needs {' and '.join(missing)}: pip install 'recray[tune]'")
    from recray.cli.tuning import work

    work(args, description)
