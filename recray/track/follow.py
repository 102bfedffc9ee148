"""A process that tells one tracker of one run: ``python -m recray.track.follow wandb FOLDER``.

It reads the run's folder and nothing else, so whatever a tracker does (fail, hang, be killed), the run goes
on. Whoever started it holds its standard input open for as long as the run lasts; when that closes, the
rest and the outcome are told. How far it came is kept in ``tracking/`` beside the run: the next process goes
on from there, and the same command by hand sends what a tracker missed.
"""

import json
import logging
import math
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recray.folders import digest, locked, write_whole
from recray.track import history
from recray.track.console import setup_logging
from recray.track.record import Outcome, RunFolder
from recray.track.reporters import Reporter, open_reporter

log = logging.getLogger("recray.track.follow")  # as a process it is called __main__
FOLDER = "tracking"
LOOK_EVERY_S, RETRY_AFTER_S = 0.5, 10.0
TOO_LATE = 2

Wait = Callable[[float], bool]
"""Waits so many seconds at most; whether the run is over."""


class Position:
    """How far a tracker has come with a run: a file, so that it outlives the process."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / FOLDER / f"{name}.json"
        try:
            found = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            found = {}
        self.reports: int = found.get("reports", 0)
        self.memory: dict[str, Any] = found.get("memory", {})
        self._settings: str = found.get("settings", "")

    def begin(self, settings: Mapping[str, object]) -> None:
        """From the start where the run was begun anew with other settings: to a tracker that is another."""
        if self._settings != (now := digest(settings)):
            self.reports, self.memory, self._settings = 0, {}, now

    def keep(self) -> None:
        values = {"reports": self.reports, "memory": self.memory, "settings": self._settings}
        write_whole(self._path, json.dumps(values).encode())


def follow(name: str, run: RunFolder, over: Wait) -> bool:
    """Tells a tracker of each report as it comes and, once the run is over, how it ended.

    What fails is tried again while the run lasts, and said once. Returns whether all was told.
    """
    (run.folder / FOLDER).mkdir(exist_ok=True)
    with locked(run.folder / FOLDER / f".{name}.lock"):  # an earlier attempt's process may still be at it
        position, complained = Position(run.folder, name), False
        position.begin(run.settings())
        reporter, ended, pause_s, read_bytes = None, False, 0.0, -1
        while True:
            ended = ended or over(pause_s)
            try:
                if reporter is None:
                    reporter = open_reporter(name, run, position.memory)
                    position.keep()
                read_bytes = _catch_up(reporter, run, position, read_bytes)
                if ended:
                    reporter.finish(run.outcome() or Outcome(state="lost"))
                    position.keep()
                    return True
                pause_s = LOOK_EVERY_S
            except Exception as error:  # whatever a tracker's library raises: the run is no part of it
                if not complained:
                    log.warning("run %s: %s fails (%s)", run.name, name, _sentence(error))
                if ended:
                    return False
                reporter, complained, pause_s, read_bytes = None, True, RETRY_AFTER_S, -1


def _catch_up(reporter: Reporter, run: RunFolder, position: Position, read_bytes: int) -> int:
    """Tells what came since; returns how many bytes of the history there are now."""
    size_bytes = path.stat().st_size if (path := run.folder / history.FILE).exists() else 0
    if size_bytes != read_bytes and (news := run.reports()[position.reports :]):
        reporter.report(position.reports, news)
        position.reports += len(news)
        position.keep()
    return size_bytes


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]


def _input_closed(seconds: float | None) -> bool:
    """Nobody writes to it: it becomes readable when it is closed."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _give_up(wait_s: float) -> None:
    """Ends this process so long after the run, whatever its tracker's library is waiting for."""
    _input_closed(None)
    time.sleep(wait_s)
    os._exit(TOO_LATE)


def main(name: str, folder: str, wait_s: str = "inf") -> int:
    """Of the process. Exit status: 0 all was told, 1 the tracker failed, 2 it took too long."""
    setup_logging(logging.WARNING, os.fdopen(os.dup(2), "w"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries print what they like, addresses and all
    if math.isfinite(float(wait_s)):
        threading.Thread(target=_give_up, args=(float(wait_s),), daemon=True).start()
    return 0 if follow(name, RunFolder(Path(folder)), _input_closed) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
