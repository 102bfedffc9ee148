"""The trackers that a run can be followed by: one line and one file each.

A reporter reads a run's folder and tells somebody else. It lives in a process of its own (``track.follow``),
is opened anew after a failure, and then goes on from the report that it had come to.
"""

import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, cast

from recray.config import ConfigError, nearest
from recray.track.history import Report
from recray.track.record import Outcome, RunFolder

ID = "identity"  # in a reporter's memory: tells this run from all others, whatever their names
OF = "of"  # the same of the search that it is a trial of


class Reporter(Protocol):
    """Made as ``REPORTER(run, memory)``; what it puts into ``memory`` (JSON) is there the next time.

    ``memory[ID]`` is there from the start, and has been kept: a reporter that is killed while it opens can
    be found under it by the next one.
    """

    def report(self, first: int, reports: Sequence[Report]) -> None:
        """Tells of reports, the first of which is the run's ``first``-th, counted from 0. Returns once they
        are kept, wherever that is: they will not come again."""

    def finish(self, outcome: Outcome) -> None:
        """Tells how the run ended and closes."""


class MakeReporter(Protocol):
    def __call__(self, run: RunFolder, memory: dict[str, Any]) -> Reporter: ...


class Tracker(NamedTuple):
    """How a reporter is found."""

    module: str  # has REPORTER
    package: str  # that it cannot do without
    extra: str  # of recray, which installs it


NOTICES = "notices"
TRACKERS = {
    "wandb": Tracker("recray.track.weights_and_biases", "wandb", "wandb"),
    "tensorboard": Tracker("recray.track.tensorboard", "tensorboardX", "tensorboard"),
    "mlflow": Tracker("recray.track.mlflow_store", "mlflow", "mlflow"),
}
_ALL = {**TRACKERS, NOTICES: Tracker("recray.track.notices", "apprise", "notify")}


def require(names: Iterable[str]) -> None:
    """
    Raises:
        ConfigError: there is no such tracker, or its package is not installed.
    """
    for name in names:
        if name not in _ALL:
            raise ConfigError(f"no tracker {name!r}{nearest(name, TRACKERS)}")
        if importlib.util.find_spec(_ALL[name].package) is None:
            raise ConfigError(
                f"the tracker {name!r} needs {_ALL[name].package}: pip install 'recray[{_ALL[name].extra}]'"
            )


def open_reporter(name: str, run: RunFolder, memory: dict[str, Any]) -> Reporter:
    make = cast(MakeReporter, importlib.import_module(_ALL[name].module).REPORTER)
    return make(run, memory)
