"""Keeps a run on record: a process for each tracker while it lasts, and a word about its end."""

import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import recray
from recray.redaction import NOTIFY
from recray.schema import DataError
from recray.track.follow import TOO_LATE, Position
from recray.track.record import Outcome, RunFolder
from recray.track.reporters import NOTICES, require

log = logging.getLogger(__name__)
LAST_LINES = 15
STARTING_S = 15.0  # of a process whose run was over before it stood
_recorded: set[Path] = set()  # folders of the runs that this process records


class Recording:
    """A run that is being recorded."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.outcome: Outcome | None = None

    @property
    def name(self) -> str:
        return self.run.name

    def finish(self, outcome: Outcome) -> None:
        """Says more of the end than that it came; else a run that raises nothing is finished."""
        self.outcome = outcome


@contextmanager
def recording(run: RunFolder, trackers: Sequence[str], wait_s: float) -> Iterator[Recording]:
    """Has the trackers follow what happens within, and notes how it ended.

    No tracker can harm it: they are processes that read the run's folder. At the end they are waited for,
    ``wait_s`` seconds at most; what did not get through is said once.
    """
    record = Recording(run)
    if run.folder in _recorded:  # whoever launches a run within its life adds nothing to it
        yield record
        return
    _recorded.add(run.folder)
    run.begin()
    followers = {name: process for name in trackers if (process := _start(name, run, wait_s))}
    try:
        yield record
    except BaseException as error:
        record.finish(_ended_by(error))
        raise
    finally:
        _recorded.remove(run.folder)
        _note(run, record.outcome or Outcome(state="finished"))
        for name, late in _waited_for(followers, run, wait_s).items():
            _say_what_is_missing(run, name, late)


@contextmanager
def following_trials(search: Path, trackers: Sequence[str], wait_s: float) -> Iterator[None]:
    """Has the trackers follow the trials of a search, which are runs in ``trials`` of its folder.

    Whoever runs a trial notes its settings and its end there; no tracker can harm one, as in ``recording``.
    """
    run = RunFolder(search)
    followers = {name: process for name in trackers if (process := _start(name, run, wait_s))}
    try:
        yield
    finally:
        for name, late in _waited_for(followers, run, wait_s).items():
            log.warning(
                "search %s: %s %s: `%s` sends what is missing",
                *(run.name, name, "took too long" if late else "failed", _by_hand(name, run)),
            )


def _by_hand(name: str, run: RunFolder) -> str:
    return f"python -m recray.track.follow {name} {run.folder} < /dev/null"


def _ended_by(error: BaseException) -> Outcome:
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return Outcome(state="stopped")
    lines = "".join(traceback.format_exception(error)).splitlines()
    return Outcome(state="failed", said="\n".join(lines[-LAST_LINES:]))


def notices() -> tuple[str, ...]:
    """The tracker that tells people, where RECRAY_NOTIFY names some.

    Raises:
        ConfigError: Apprise is not installed, or does not know one of the addresses.
    """
    addresses = os.environ.get(NOTIFY, "")
    if not addresses.strip():
        return ()
    require((NOTICES,))
    from recray.track.notices import opened  # an optional package

    opened(addresses)
    return (NOTICES,)


def _start(name: str, run: RunFolder, wait_s: float) -> subprocess.Popen[bytes] | None:
    root = str(Path(recray.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "recray.track.follow", name, str(run.folder), str(wait_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # what libraries print
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the run; its trackers hear of it by the outcome
        )
    except OSError as error:  # no memory, no processes left
        log.warning(
            "run %s: %s does not follow it, as no process could be started: %s", run.name, name, error
        )
        return None


def _note(run: RunFolder, outcome: Outcome) -> None:
    try:
        run.end(outcome)
    except (OSError, DataError) as error:
        log.warning("run %s: that it is %s could not be noted (%s)", run.name, outcome.state, error)


def _waited_for(
    followers: Mapping[str, subprocess.Popen[bytes]], run: RunFolder, wait_s: float
) -> dict[str, bool]:
    """Those that did not tell everything: whether they were too late, and not broken.

    One that somebody killed, as where memory ran out, is started once more: it tells what it missed.
    """
    for process in followers.values():
        _say_that_it_is_over(process)
    until_s, left = time.monotonic() + wait_s + STARTING_S, {}
    for name, process in followers.items():
        code = _status(process, until_s)
        if code < 0 and (another := _start(name, run, wait_s)):
            _say_that_it_is_over(another)
            code = _status(another, until_s)
        if code:
            left[name] = code != 1
    return left


def _say_that_it_is_over(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def _status(process: subprocess.Popen[bytes], until_s: float) -> int:
    """With which it ended; one that takes longer is killed."""
    try:
        return process.wait(max(0.0, until_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return TOO_LATE


def _say_what_is_missing(run: RunFolder, name: str, late: bool) -> None:
    position, reports = Position(run.folder, name), len(run.reports())
    missing = [f"{reports - position.reports} of {reports} reports"] if position.reports < reports else []
    log.warning(
        "run %s: %s %s, so it lacks %s; all of it is in %s, and `%s` sends what is missing",
        *(run.name, name, "took too long" if late else "failed", " and ".join([*missing, "how it ended"])),
        *(run.folder, _by_hand(name, run)),
    )
