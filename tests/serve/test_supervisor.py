"""The supervisor with a small server of real processes: what dies is started again, and leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recray.serve.http.haproxy import free_port
from recray.serve.place.supervisor import descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="adopts orphans by a call of Linux")

SERVER = Path(__file__).with_name("supervised_server.py")
RUN = """
import sys
from recray.cli import guarded
from recray.serve.place.supervisor import Patience, Supervisor
patience = Patience(look_every_s=0.05, mute_after_s=1.0, failures={failures})
sys.exit(guarded(lambda: sys.exit(Supervisor(sys.argv[2:], int(sys.argv[1]), patience).run())))
"""


class Supervised:
    """A supervisor, and the processes that its server wrote down last."""

    def __init__(self, folder: Path, failures: int, command: list[str] | None = None) -> None:
        port = free_port()
        command = command or [sys.executable, str(SERVER), str(port), str(folder)]
        run = [sys.executable, "-c", RUN.format(failures=failures), str(port), *command]
        self.process = subprocess.Popen(run, stderr=subprocess.PIPE, text=True)
        self._file = folder / "processes"

    def next_processes(self) -> tuple[int, int]:
        """(server, the process below it) of a server that has not been asked for yet."""
        eventually(self._file.exists)
        server, below = map(int, self._file.read_text().split())
        self._file.unlink()
        return server, below


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 60 s"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def up(supervised: Supervised) -> tuple[int, int]:
    processes = supervised.next_processes()
    time.sleep(0.5)  # the supervisor has seen its health
    return processes


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path, failures=3)
    yield running
    running.process.terminate()
    running.process.wait(60)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_dies_or_falls_silent_is_started_again(
    supervised: Supervised, number: signal.Signals
) -> None:
    server, below = up(supervised)
    os.kill(server, number)
    again, _ = supervised.next_processes()
    assert again != server
    assert is_gone(server)
    assert is_gone(below)


def test_told_to_end_it_leaves_nothing(supervised: Supervised) -> None:
    up(supervised)
    processes = descendants(supervised.process.pid)
    assert len(processes) == 2
    supervised.process.terminate()
    assert supervised.process.wait(60) == 0
    assert all(map(is_gone, processes))


def test_what_never_came_up_is_not_started_again(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, 3, [sys.executable, "-c", "raise SystemExit(5)"])
    assert supervised.process.wait(60) == 5


def test_a_server_that_dies_again_and_again_is_given_up_with_a_sentence(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, failures=2)
    for _ in range(2):
        server, _ = up(supervised)
        os.kill(server, signal.SIGKILL)
    assert supervised.process.wait(60) == 2
    assert supervised.process.stderr is not None
    assert "error: the server died 2 times within" in supervised.process.stderr.read()
