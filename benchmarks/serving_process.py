"""A server of the serving benchmark in a child process, asked and watched from here."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.load_client import RECOMMEND, LoadResult, run

log = logging.getLogger("benchmarks.serving")

START_TIMEOUT_S = 180.0
CHECKOUT = Path(__file__).parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """One that answers."""

    port: int
    pid: int  # of the child process

    def cpu_s(self) -> float:
        """CPU seconds of its replicas so far; of the process itself where it has none."""
        family = _with_descendants(self.pid)
        replicas = [pid for pid in family if b"ServeReplica" in _read(pid, "cmdline")]
        return sum(_cpu_s(pid) for pid in replicas or [self.pid])


def environment(checkout: Path) -> dict[str, str]:
    """Of a child process that runs another checkout, or this one."""
    # Each setting chooses its own proxy: nothing of the caller's choice may leak in.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_SERVE_")}
    return {**kept, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(checkout)}


@contextlib.contextmanager
def served(peer: str, root: Path, port: int, checkout: Path = CHECKOUT) -> Iterator[Server]:
    """One of the servers, running in a child process."""
    command = [sys.executable, "-m", "benchmarks.serving_peers", peer, str(root), str(port)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=checkout,
            env=environment(checkout),
        )
        try:
            _await_ready(process, port)
            yield Server(port, process.pid)
        except Exception:
            errors.seek(0)
            log.error("%s:\n%s", peer, errors.read()[-4000:])
            raise
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_ready(process: "subprocess.Popen[str]", port: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "ready":
            break
    else:
        raise RuntimeError(f"the server ended with status {process.wait()} before it was ready")
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:  # the proxy may learn of its route a moment later
        try:
            ask(port, {"user_id": "0"})
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def ask(port: int, body: dict[str, Any]) -> dict[str, Any]:
    """One answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/recommend",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def loaded(server: Server, clients: int, seconds: float, bodies: Path, path: str = RECOMMEND) -> LoadResult:
    """What so many clients see that wait for their answers, and what it costs the replicas."""
    worked_s = server.cpu_s()
    result = run(server.port, clients, seconds, bodies, path)
    cpu_ms = 1e3 * (server.cpu_s() - worked_s) / max(1, result.requests)
    return replace(result, replica_cpu_ms=round(cpu_ms, 3))


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def _stat(pid: int) -> list[bytes]:
    """Behind the name, which may hold blanks: state, parent, ..."""
    return _read(pid, "stat").rpartition(b") ")[2].split()


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _with_descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for each in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        if fields := _stat(each):
            children.setdefault(int(fields[1]), []).append(each)
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found
