"""Search a model's settings with Ray Tune; validation decides, the test part is looked at once, at the end.

recray tune two_tower ml-100k --trials 40
recray tune sasrec events.csv --trials 20 --data.split global-time --no-publish
"""

from collections.abc import Sequence
from importlib.util import find_spec

from recray.cli import guarded
from recray.config import ConfigError
from recray.track.console import setup_logging

NEEDED = ("optuna", "plotly")


def main(args: Sequence[str]) -> int:
    setup_logging()
    return guarded(
        lambda: _work(list(args)), goes_on="a search with a name (--launch.run) goes on from there"
    )


def _work(args: list[str]) -> None:
    """Says what is missing before anything heavy is imported.

    Raises:
        ConfigError: what a search needs is not installed.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(f"a search needs {' and '.join(missing)}: pip install 'recray[tune]'")
    from recray.cli.tuning import work

    work(args, __doc__)
