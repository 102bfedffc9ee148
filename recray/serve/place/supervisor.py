"""Keeps a server running: a parent that knows nothing of Ray starts it, looks at it, and starts it again.

What the server started and left behind when it died is ended first, and nothing else: orphans below a
supervisor become its own children (PR_SET_CHILD_SUBREAPER), so that they are found without a name.
"""

import contextlib
import ctypes
import http.client
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from recray.config import ConfigError

log = logging.getLogger(__name__)

SUPERVISED = "RECRAY_SUPERVISED"  # in the environment of the server: its supervisor's process
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long what is waited for, in seconds."""

    look_every_s: float = 0.5
    mute_after_s: float = 4.0
    """Without any answer of the ingress."""
    unserved_after_s: float = 60.0
    """With an ingress that has nobody to ask: Serve itself starts lost replicas again."""
    start_within_s: float = 600.0
    end_within_s: float = 45.0
    failures: int = 5
    """So many within ``failures_within_s`` are too many."""
    failures_within_s: float = 600.0
    longest_pause_s: float = 30.0


def is_supervised() -> bool:
    return os.environ.get(SUPERVISED) == str(os.getppid())


def left_alone() -> bool:
    """Whether this process had a supervisor, which is gone."""
    return SUPERVISED in os.environ and not is_supervised()


class Supervisor:
    """One server after another, each in a process group of its own, until this process is told to end."""

    def __init__(self, command: Sequence[str], port: int, patience: Patience | None = None) -> None:
        self._command, self._port, self._patience = list(command), port, patience or Patience()
        self._told_to_end = self._was_up = False

    def run(self) -> int:
        """Returns the exit status: the server's own where it never came up.

        Raises:
            ConfigError: it died too often.
        """
        _adopt_orphans()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        failures: deque[float] = deque(maxlen=self._patience.failures)
        while True:
            environment = {**os.environ, SUPERVISED: str(os.getpid())}
            server = subprocess.Popen(self._command, env=environment, start_new_session=True)
            problem = self._watch(server)
            num_left = end_descendants()
            if self._told_to_end:
                return 0
            if not self._was_up:
                return max(1, server.returncode)
            log.error("%s; ended %d processes that were left over", problem, num_left)
            failures.append(time.monotonic())
            self._pause(failures)

    def _watch(self, server: "subprocess.Popen[bytes]") -> str:
        """Returns when the server is to be started again, or to be left; says why."""
        began = heard = served = time.monotonic()
        up = False
        while server.poll() is None:
            if self._told_to_end:
                return self._end_softly(server)
            time.sleep(self._patience.look_every_s)
            reap(but=server.pid)
            status, now = self._ask("/-/healthz" if up else "/health"), time.monotonic()
            if not up:
                if status == 200:
                    up = self._was_up = True
                    heard = served = now
                elif now - began > self._patience.start_within_s:
                    return f"the server did not start within {self._patience.start_within_s:g} s"
                continue
            heard = now if status is not None else heard
            served = now if status == 200 else served
            if now - heard > self._patience.mute_after_s:
                return f"the ingress has not answered for {now - heard:.1f} s"
            if now - served > self._patience.unserved_after_s:
                return f"no replica has answered for {now - served:.0f} s"
        return f"the server ended with status {server.returncode}"

    def _end_softly(self, server: "subprocess.Popen[bytes]") -> str:
        log.info("told to end: the server answers what it has")
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(self._patience.end_within_s)
        except subprocess.TimeoutExpired:
            log.warning("it has not ended within %g s", self._patience.end_within_s)
            server.kill()
            server.wait()
        return "told to end"

    def _pause(self, failures: "deque[float]") -> None:
        within_s = time.monotonic() - failures[0]
        if len(failures) == self._patience.failures and within_s < self._patience.failures_within_s:
            raise ConfigError(
                f"the server died {len(failures)} times within {within_s:.0f} s: what it logged says why"
            )
        pause_s = min(self._patience.longest_pause_s, 2.0 ** (len(failures) - 1) - 1)
        log.info("starting the server again in %g s", pause_s)
        deadline = time.monotonic() + pause_s
        while not self._told_to_end and time.monotonic() < deadline:
            time.sleep(0.1)

    def _ask(self, path: str) -> int | None:
        """The status of an answer; None: there was none within two seconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2.0)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return None

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._told_to_end = True


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1)


def descendants(pid: int) -> list[int]:
    """Processes below this one, dead ones that nobody has reaped included; elsewhere than on Linux none."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            # "PID (any name) STATE PARENT ..."
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def end_descendants() -> int:
    """Kills what is below this process, whatever that starts meanwhile too; returns how many there were."""
    ended: set[int] = set()
    while left := descendants(os.getpid()):
        ended.update(left)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        time.sleep(0.02)
    return len(ended)


def reap(but: int = 0) -> None:
    """Takes note of children that have ended; not of this one, whose status somebody waits for."""
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == but:
                return
            os.waitpid(ended.si_pid, 0)
