"""A process that tells one tracker of one run: ``python -m recray.track.follow wandb FOLDER``.

The folder of a search holds a run for each trial: the process tells of all of them, side by side.
It reads the run's folder and nothing else, so whatever a tracker does (fail, hang, be killed), the run goes
on. Whoever started it holds its standard input open for as long as the run lasts; when that closes, the
rest and the outcome are told. How far it came is kept in ``tracking/`` beside the run: the next process goes
on from there, and the same command by hand sends what a tracker missed.
"""

import json
import logging
import math
import os
import secrets
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recray.config import to_dict
from recray.folders import digest, locked, write_whole
from recray.track import history
from recray.track.console import setup_logging
from recray.track.history import Report
from recray.track.record import RUN, Outcome, RunFolder
from recray.track.reporters import ID, OF, Reporter, open_reporter

log = logging.getLogger("recray.track.follow")  # as a process it is called __main__
FOLDER = "tracking"
TRIALS = "trials"  # in a search's folder: a run's folder for each
LOOK_EVERY_S, RETRY_AFTER_S = 0.5, 10.0
TOO_LATE = 2

Wait = Callable[[float], bool]
"""Waits so many seconds at most; whether the run is over."""


class Position:
    """How far a tracker has come with a run: a file, so that it outlives the process.

    A run that is done again may say as many reports as before, or more, between two looks at it. So the
    position holds which report came last, and which end, and not merely how many and that there was one.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / FOLDER / f"{name}.json"
        try:
            found = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            found = {}
        self.reports: int = found.get("reports", 0)
        self.last: str = found.get("last", "")  # digest of the last report that was told
        self.end: str = found.get("end", "")  # digest of the end that was told; empty: none was
        self.memory: dict[str, Any] = found.get("memory", {})
        self._settings: str = found.get("settings", "")

    def begin(self, settings: Mapping[str, object]) -> None:
        """From the start where the run was begun anew with other settings: to a tracker that is another."""
        if self._settings != (now := digest(settings)):
            self.restart()
            self._settings = now

    def restart(self) -> None:
        """Knows of nothing that was told."""
        self.reports, self.last, self.end, self.memory = 0, "", "", {}

    def is_of(self, reports: Sequence[Report]) -> bool:
        """Whether what was told stands at the beginning of these, which only ever grow."""
        if len(reports) < self.reports:
            return False
        return not self.reports or digest(reports[self.reports - 1]) == self.last

    def told(self, news: Sequence[Report]) -> None:
        self.reports, self.last = self.reports + len(news), digest(news[-1])

    def keep(self) -> None:
        names = ("reports", "last", "end", "memory")
        values = {**{name: getattr(self, name) for name in names}, "settings": self._settings}
        write_whole(self._path, json.dumps(values).encode())


class Follower:
    """What one tracker was told of one run; what fails is said once, and tried again."""

    def __init__(self, name: str, run: RunFolder) -> None:
        self.name, self.run = name, run
        (run.folder / FOLDER).mkdir(exist_ok=True)
        self._position = Position(run.folder, name)
        self._position.begin(run.settings())
        self._reporter: Reporter | None = None
        self._complained = False
        self._file: tuple[int, int] | None = None  # the reports' as it was when they were read
        self._read_at_s = self._retry_at_s = -math.inf

    def knows_the_end(self) -> bool:
        """Whether there is nothing left to tell, and nobody goes on with the run."""
        outcome = self.run.outcome()
        return outcome is not None and self._was_told(outcome)

    def _was_told(self, outcome: Outcome) -> bool:
        if self._position.end != _digest(outcome):
            return False
        reports = self.run.reports()  # of a run that was done again they are others, and its end may be alike
        return self._position.is_of(reports) and len(reports) == self._position.reports

    def look(self, *, ended: bool) -> bool:
        """Tells what came since and how the run ended; whether that got through.

        Args:
            ended: whoever ran it is gone: where no end is noted, it was lost.
        """
        if not ended and time.monotonic() < self._retry_at_s:
            return False
        try:
            outcome = self.run.outcome()  # first: what is reported comes before it
            if outcome and self._was_told(outcome):
                return True
            self._catch_up(ended=ended or outcome is not None)
            if self._reporter and (ended or outcome):
                self._reporter.finish(outcome or Outcome(state="lost"))
                self._reporter, self._position.end = None, _digest(outcome) if outcome else ""
                self._position.keep()
            return True
        except Exception as error:  # whatever a tracker's library raises: the run is no part of it
            if not self._complained:
                log.warning("run %s: %s fails (%s)", self.run.title, self.name, _sentence(error))
            self._reporter, self._complained, self._file = None, True, None
            self._retry_at_s = time.monotonic() + RETRY_AFTER_S
            return False

    def _catch_up(self, *, ended: bool) -> None:
        if self._reporter is None:
            self._file = None
        reports = self._changed(ended=ended)
        if reports is not None and not self._position.is_of(reports):
            self._begin_anew()
        if self._reporter is None:
            self._position.end = ""
            self._reporter = self._opened()
        if news := (reports or [])[self._position.reports :]:
            self._reporter.report(self._position.reports, news)
            self._position.told(news)
            self._position.keep()

    def _changed(self, *, ended: bool) -> list[dict[str, float]] | None:
        """All reports; None: they are as they were. In a home's bucket another machine may have written
        them, which no file here shows: so they are read now and then, and at the end."""
        path = self.run.folder / history.FILE
        try:
            file = (path.stat().st_mtime_ns, path.stat().st_size)
        except FileNotFoundError:
            file = (0, 0)
        if file == self._file and not ended and time.monotonic() < self._read_at_s + RETRY_AFTER_S:
            return None
        self._file, self._read_at_s = file, time.monotonic()
        return self.run.reports()

    def _begin_anew(self) -> None:
        """The run is done again: to a tracker that is another, and the one that it knew was lost."""
        left, self._reporter = self._reporter, None
        self._position.restart()
        self._position.keep()
        if left:
            left.finish(Outcome(state="lost"))

    def _opened(self) -> Reporter:
        """Its memory is kept before and after: one that dies in opening finds what it had made."""
        folder = self.run.folder
        if folder.parent.name == TRIALS:
            self._position.memory[OF] = _named(Position(folder.parents[1], self.name))
        _named(self._position)
        opened = open_reporter(self.name, self.run, self._position.memory)
        self._position.keep()
        return opened


def follow(name: str, run: RunFolder, over: Wait) -> bool:
    """Tells a tracker of each report as it comes and, once the run is over, how it ended.

    What fails is tried again while the run lasts, and said once. Returns whether all was told.
    """
    (run.folder / FOLDER).mkdir(exist_ok=True)
    with locked(run.folder / FOLDER / f".{name}.lock"):  # an earlier attempt's process may still be at it
        one, ended = Follower(name, run), over(0.0)
        while True:
            told = one.look(ended=ended)
            if ended:
                return told
            ended = over(LOOK_EVERY_S if told else RETRY_AFTER_S)


def follow_trials(name: str, search: Path, over: Wait) -> bool:
    """Tells a tracker of every trial of a search, each of which is a run to it; as ``follow``."""
    (search / FOLDER).mkdir(exist_ok=True)
    with locked(search / FOLDER / f".{name}.lock"):
        trials: dict[Path, Follower] = {}
        done: set[Path] = set()
        while True:
            ended = over(LOOK_EVERY_S)
            for path in sorted((search / TRIALS).glob(f"*/{RUN}")):
                if path in done:
                    continue
                if path not in trials:
                    trials[path] = Follower(name, RunFolder(path.parent))
                trial = trials[path]
                told = trial.look(ended=ended)
                if trial.knows_the_end() or (ended and told):
                    done.add(path)
                    del trials[path]
            if ended:
                return not trials


def _named(position: Position) -> str:
    """Its identity, which is kept before anybody hears of it."""
    name: str = position.memory.setdefault(ID, secrets.token_hex(8))
    position.keep()
    return name


def _digest(outcome: Outcome) -> str:
    return digest(to_dict(outcome))


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
    place = Path(folder)
    if (place / TRIALS).is_dir():
        return 0 if follow_trials(name, place, _input_closed) else 1
    return 0 if follow(name, RunFolder(place), _input_closed) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
