"""What can happen to a server that runs: a part of it dies, the store or its disk fails, Redis is gone."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.constant_load import call
from benchmarks.serving_world import APPLICATION
from recray.serve.http.haproxy import free_port
from recray.serve.place.supervisor import descendants

REPO = Path(__file__).parent.parent
STARTED_WITHIN_S = 180.0
LASTS_S = 5.0  # of what is mended again


class Redis:
    """A redis-server of our own, which keeps what it is told on disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.port, self._folder = free_port(), folder
        self.start()

    def start(self) -> None:
        command = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self._folder),
        ]
        command += ["--appendonly", "yes"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Server:
    """``jobs/serve.py`` as a user starts it."""

    process: "subprocess.Popen[bytes]"
    port: int
    home: Path
    replicas: int
    redis: Redis | None = None
    kept: dict[Path, bytes] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.home / "store"

    def find(self, name: bytes) -> list[int]:
        found = []
        for pid in descendants(self.process.pid):
            with contextlib.suppress(OSError):
                if name in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    found.append(pid)
        return found

    def is_whole(self) -> bool:
        """Whether HAProxy gives requests to all replicas: each counts for itself."""
        pages = [call(self.port, "/metrics")[1] for _ in range(4 * self.replicas)]
        answered = {match[1] for page in pages if (match := re.search(rb'replica="([^"]+)"', page))}
        return len(answered) == self.replicas


@contextlib.contextmanager
def served(home: Path, replicas: int, output: Path, *, with_redis: bool = False) -> Iterator[Server]:
    """Logs into ``output``; what Ray keeps lies in ``home``."""
    port = free_port()
    command = [sys.executable, str(REPO / "jobs" / "serve.py"), "--service.application", APPLICATION]
    command += ["--port", str(port), "--placement.replicas", str(replicas)]
    command += ["--placement.cpus-per-replica", "0.5"]
    environment = {**os.environ, "RECRAY_HOME": str(home), "PYTHONPATH": str(REPO), "RAY_TMPDIR": str(home)}
    redis = Redis(home / "redis") if with_redis else None
    if redis:
        environment["RECRAY_REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
    with output.open("ab") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    server = Server(process, port, home, replicas, redis)
    try:
        wait_for(server.is_whole, STARTED_WITHIN_S)
        yield server
    finally:
        process.terminate()
        process.wait(120)
        if redis:
            redis.kill()


def wait_for(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s:.0f} s")
        time.sleep(0.2)


@dataclass(frozen=True)
class Fault:
    """What happens; and, where that does not mend itself, how it ends after ``LASTS_S``."""

    begin: Callable[[Server], None]
    end: Callable[[Server], None] | None = None
    part: bytes | None = None
    """The process that dies, by name."""
    kills_server: bool = False
    """The supervisor starts all of it again, but gives up what dies five times."""

    def can_happen(self, server: Server) -> bool:
        return server.is_whole() and (self.part is None or bool(server.find(self.part)))

    def happen(self, server: Server) -> None:
        self.begin(server)
        if self.end:
            time.sleep(LASTS_S)
            self.end(server)


def death(part: bytes, *, kills_server: bool = False) -> Fault:
    def kill(server: Server) -> None:
        os.kill(server.find(part)[0], signal.SIGKILL)

    return Fault(kill, part=part, kills_server=kills_server)


def _gone(server: Server) -> None:
    server.store.rename(server.store.with_name("gone"))


def _back(server: Server) -> None:
    server.store.with_name("gone").rename(server.store)


def _damaged(server: Server) -> None:
    """Every manifest and name is cut in half."""
    for file in server.store.rglob("*.json"):
        server.kept[file] = content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])


def _whole(server: Server) -> None:
    for file, content in server.kept.items():
        beside = file.with_name("whole")
        beside.write_bytes(content)
        beside.rename(file)
    server.kept.clear()


def _read_only(server: Server) -> None:
    mount("--bind", str(server.store), str(server.store))
    mount("-o", "remount,bind,ro", str(server.store))


def _writable(server: Server) -> None:
    subprocess.run(["umount", "--lazy", str(server.store)], check=True)


def _full(server: Server) -> None:
    """Not a byte is left for the store, for Redis or for what Ray logs."""
    with contextlib.suppress(OSError), (server.home / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _free(server: Server) -> None:
    (server.home / "filler").unlink()


def _redis_dies(server: Server) -> None:
    assert server.redis
    server.redis.kill()


def _redis_starts(server: Server) -> None:
    assert server.redis
    server.redis.start()


FAULTS = {
    "replica": death(b"ray::ServeReplica"),
    "ingress": death(b"bin/haproxy"),
    "ingress_actor": death(b"ray::HAProxyManager"),
    "controller": death(b"ray::ServeController"),
    "redis": Fault(_redis_dies, _redis_starts),
    "store_gone": Fault(_gone, _back),
    "store_read_only": Fault(_read_only, _writable),
    "store_damaged": Fault(_damaged, _whole),
    "disk_full": Fault(_full, _free),
    "gcs": death(b"gcs/gcs_server", kills_server=True),
    "raylet": death(b"raylet/raylet", kills_server=True),
}
WITH_REDIS, ON_A_SMALL_DISK = ("redis", "disk_full"), ("disk_full",)


def mount(*args: str) -> None:
    """Raises: RuntimeError, where this user may not."""
    if not shutil.which("mount") or subprocess.run(["mount", *args], check=False).returncode:
        raise RuntimeError("cannot mount: run it as root, with mounts of its own (unshare --mount)")
