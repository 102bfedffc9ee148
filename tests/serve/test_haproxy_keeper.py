"""A real HAProxy that is killed: who answers next, and who takes over from that."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recray.serve.http import haproxy_keeper
from recray.serve.http.haproxy import free_port
from recray.serve.http.haproxy_keeper import CURRENT, ENDING, has_routes, spare_socket
from tests.serve.test_haproxy_rules import BACKEND, CONFIG, PROGRAM, ROUTES, app, ask, listens
from tests.serve.uvicorn_server import serving


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def has_ended(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """Of Ray; what it describes is ended at the end."""
    (tmp_path / "node").mkdir()
    file = tmp_path / "node" / "haproxy.cfg"
    with serving(app) as behind:
        file.write_text(CONFIG.format(port=free_port(), routes=ROUTES) + BACKEND.format(port=behind))
        yield file
        (tmp_path / ENDING).touch()
        if serves := haproxy_keeper.serving(file.parent):
            subprocess.run(["kill", str(serves)], check=False)


def started(config: Path) -> "subprocess.Popen[bytes]":
    """As Ray starts HAProxy."""
    own = [haproxy_keeper.__file__, str(config.parent.parent), str(PROGRAM)]
    return subprocess.Popen([sys.executable, "-IS", *own, "-db", "-f", str(config), "-dR"])


def test_whoever_connects_while_haproxy_is_dead_is_answered_by_its_deputy(config: Path) -> None:
    text = config.read_text()
    assert has_routes(text)
    port, current = int(text.split("127.0.0.1:")[1].split()[0]), config.with_name(CURRENT)
    first = started(config)
    eventually(lambda: listens(port))
    assert ask(port).status == 200
    first.kill()
    first.wait()
    eventually(lambda: listens(port))  # from now on nobody is refused, whether or not the deputy is there
    assert ask(port).status == 200
    deputy = int(current.read_text())
    assert deputy != first.pid
    assert " bind fd@" in config.with_name("deputy.cfg").read_text()
    # Ray has missed the first one: the next takes over from the deputy.
    second = started(config)
    eventually(lambda: has_ended(deputy))
    assert int(current.read_text()) == second.pid
    assert [ask(port).status for _ in range(8)] == [200] * 8
    config.parent.with_name(ENDING).touch()
    second.terminate()
    second.wait()
    eventually(lambda: not listens(port))


def test_a_spare_socket_takes_connections_once_it_listens() -> None:
    with socket.socket() as serves:
        serves.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        serves.bind(("127.0.0.1", 0))
        serves.listen()
        port = serves.getsockname()[1]
        spare = spare_socket(CONFIG.format(port=port, routes=ROUTES))
        assert spare is not None
    with spare:
        assert not listens(port)
        spare.listen()
        assert listens(port)


def test_without_an_address_or_with_one_that_is_taken_there_is_none() -> None:
    assert spare_socket("global\n") is None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert spare_socket(CONFIG.format(port=taken.getsockname()[1], routes=ROUTES)) is None
