"""``jobs/serve.py`` as a user starts it: who can reach it, and what remains when parts of it are killed."""

import contextlib
import http.client
import ipaddress
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from recray.serve.http.haproxy import free_port
from recray.serve.place.supervisor import descendants
from recray.store import Store
from tests.serve.world import APPLICATION

pytestmark = [pytest.mark.ray, pytest.mark.slow]

REPO = Path(__file__).parents[2]
HAPROXY, RAYLET, REPLICA = b"bin/haproxy", b"raylet/raylet", b"ray::ServeReplica"


class Served:
    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process, self.port = process, port

    def ask(self, **fields: object) -> int | None:
        """The status of an answer; None: there was none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            headers = {"content-type": "application/json"}
            connection.request("POST", "/recommend", json.dumps(fields), headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        return None

    def find(self, command: bytes) -> list[int]:
        """Processes below the supervisor whose command has this in its name."""
        found = []
        for pid in descendants(self.process.pid):
            with contextlib.suppress(OSError):
                if command in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    found.append(pid)
        return found


@contextlib.contextmanager
def serving_job(store: Store, environment: Mapping[str, str]) -> Iterator[Served]:
    port = free_port()
    command = [sys.executable, str(REPO / "jobs" / "serve.py"), "--port", str(port)]
    command += ["--service.application", APPLICATION, "--service.store", str(store.root)]
    command += ["--placement.replicas", "2", "--placement.cpus-per-replica", "0.5"]
    # Nothing of the Ray that other tests share.
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") or k == "RAY_AUTH_MODE"}
    process = subprocess.Popen(command, env={**plain, "RAY_USAGE_STATS_ENABLED": "0", **environment})
    running = Served(process, port)
    try:
        eventually(lambda: running.ask() == 200)
        yield running
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture(scope="module")
def served(published: Store) -> Iterator[Served]:
    with serving_job(published, {}) as running:
        yield running


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 180 s"
        time.sleep(0.1)


def listening_elsewhere(served: Served) -> list[tuple[str, object]]:
    """Names of processes, and where they listen that others can reach."""
    elsewhere: list[tuple[str, object]] = []
    for pid in descendants(served.process.pid):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN and not is_loopback(connection.laddr.ip):
                    elsewhere.append((" ".join(process.cmdline())[:60], connection.laddr))
    return elsewhere


def test_it_listens_on_loopback_only(served: Served) -> None:
    # Serve gives each replica one port for other deployments, on all interfaces, without an option.
    eventually(lambda: len(listening_elsewhere(served)) >= 2)  # the second one may come up later
    elsewhere = listening_elsewhere(served)
    assert all(name.startswith("ray::ServeReplica") for name, _ in elsewhere), elsewhere
    assert len(elsewhere) == 2


def is_loopback(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def test_a_killed_replica_costs_no_request_an_answer(served: Served) -> None:
    eventually(lambda: len(served.find(REPLICA)) == 2)
    seen: list[int | None] = []
    stop = threading.Event()

    def ask_on() -> None:
        while not stop.is_set():
            seen.append(served.ask())

    clients = [threading.Thread(target=ask_on) for _ in range(4)]
    for client in clients:
        client.start()
    before = served.find(REPLICA)
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(served.find(REPLICA)) == 2 and served.find(REPLICA) != before)
    num_asked = len(seen)
    eventually(lambda: len(seen) > num_asked + 100)
    stop.set()
    for client in clients:
        client.join()
    assert set(seen) == {200}


def test_a_killed_ingress_is_replaced_at_once_and_never_answers_404_or_500(served: Served) -> None:
    (first,) = served.find(HAPROXY)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: served.ask() == 200)
    managers = served.find(b"ray::HAProxyManager")
    seen: set[int | None] = set()

    def successor_serves() -> bool:
        seen.add(served.ask())
        return served.find(b"ray::HAProxyManager") not in ([], managers) and len(served.find(HAPROXY)) == 1

    eventually(successor_serves)
    seen.update(served.ask() for _ in range(20))
    assert seen <= {200, None}
    assert served.ask() == 200


def test_a_dead_raylet_is_noticed_and_all_is_started_again(served: Served) -> None:
    before = descendants(served.process.pid)
    (raylet,) = served.find(RAYLET)
    os.kill(raylet, signal.SIGKILL)
    eventually(lambda: served.find(RAYLET) not in ([], [raylet]))
    assert not set(before) & set(descendants(served.process.pid))
    eventually(lambda: served.ask() == 200)


def test_told_to_end_it_answers_what_it_has_and_leaves_nothing(served: Served) -> None:
    processes = descendants(served.process.pid)
    served.process.terminate()
    assert served.process.wait(120) == 0
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
