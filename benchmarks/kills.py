"""What clients notice of killed parts: requests that failed, seconds without an answer, under constant load.

``python -m benchmarks.kills --times 5`` serves a small application by ``jobs/serve.py`` (two replicas), asks
it all the time (open loop: a late answer delays no question), kills one part after another with SIGKILL,
and waits until it is back. The last line is one JSON object.
"""

import argparse
import collections
import contextlib
import http.client
import itertools
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving_world import APPLICATION, WorldSize, publish_world
from recray.serve.http.haproxy import free_port
from recray.serve.http.haproxy_keeper import parent_of
from recray.serve.place.supervisor import descendants

log = logging.getLogger("benchmarks.kills")

REPO = Path(__file__).parent.parent
SIZE = WorldSize(num_items=3_000, num_users=1_000, num_events=30_000, train_queries=50, trees=30)
RATE = 10.0  # questions a second
BACK_AFTER = 30  # good answers in a row
BACK_WITHIN_S, STARTED_WITHIN_S = 180.0, 180.0
STORE_GONE_S = 5.0
STARTED_AGAIN = ("gcs", "raylet")  # by the supervisor, which gives up what dies five times
PARTS = {
    "replica": b"ray::ServeReplica",
    "ingress": b"bin/haproxy",
    "ingress_actor": b"ray::HAProxyManager",
    "controller": b"ray::ServeController",
    "gcs": b"gcs/gcs_server",
    "raylet": b"raylet/raylet",
}


@dataclass(frozen=True)
class Asked:
    """One question: when it was sent and answered (seconds), with which status, or why without one."""

    sent: float
    done: float
    status: int | str


class Load:
    """Asks at a constant rate in threads of its own, a connection each."""

    def __init__(self, port: int) -> None:
        self._port, self.asked = port, list[Asked]()
        self._stop, self._pool = threading.Event(), ThreadPoolExecutor(256)
        self._thread = threading.Thread(target=self._run)

    def ask(self, **fields: Any) -> Asked:
        status: int | str
        sent = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            headers = {"content-type": "application/json"}
            connection.request("POST", "/recommend", json.dumps({"user_id": "1", **fields}), headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
        connection.close()
        asked = Asked(sent, time.monotonic(), status)
        self.asked.append(asked)
        return asked

    def _run(self) -> None:
        began, number = time.monotonic(), 0
        while not self._stop.wait(max(0.0, began + number / RATE - time.monotonic())):
            self._pool.submit(self.ask)
            number += 1

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()

    def is_back_since(self, moment: float) -> bool:
        last = sorted((a for a in self.asked if a.sent > moment), key=lambda a: a.sent)[-BACK_AFTER:]
        return len(last) == BACK_AFTER and all(a.status == 200 for a in last)


@dataclass
class Server:
    """``jobs/serve.py`` as a user starts it."""

    process: "subprocess.Popen[bytes]"
    port: int
    store: Path

    def kill(self, part: str) -> None:
        for pid in descendants(self.process.pid):
            with contextlib.suppress(OSError):
                if PARTS[part] in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    os.kill(pid, signal.SIGKILL)
                    return
        raise RuntimeError(f"no {part} runs")


@contextlib.contextmanager
def served(home: Path, replicas: int, output: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, str(REPO / "jobs" / "serve.py"), "--service.application", APPLICATION]
    command += ["--port", str(port), "--placement.replicas", str(replicas)]
    command += ["--placement.cpus-per-replica", "0.5"]
    environment = {**os.environ, "RECRAY_HOME": str(home), "PYTHONPATH": str(REPO)}
    with output.open("ab") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    server = Server(process, port, home / "store")
    try:
        wait_for(lambda: Load(port).ask().status == 200, STARTED_WITHIN_S)
        time.sleep(3.0)  # all replicas
        yield server
    finally:
        process.terminate()
        process.wait(120)


def wait_for(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s:.0f} s")
        time.sleep(0.2)


def killed(server: Server, part: str) -> dict[str, Any]:
    """One kill, and what was noticed until everything was answered again."""
    with Load(server.port) as load:
        time.sleep(2.0 + random.random() / RATE)  # at any time between two questions
        moment, before = time.monotonic(), children(server.process.pid)
        noticed_s: list[float] = []
        if part == "store":
            gone = server.store.with_name("gone")
            server.store.rename(gone)
            time.sleep(STORE_GONE_S)
            gone.rename(server.store)
        else:
            server.kill(part)

        def back() -> bool:
            if not noticed_s and children(server.process.pid) != before:
                noticed_s.append(round(time.monotonic() - moment, 1))
            return load.is_back_since(moment)

        wait_for(back, BACK_WITHIN_S)
    return {**noticed(load.asked, moment), "noticed_s": noticed_s if part in STARTED_AGAIN else []}


def children(pid: int) -> list[int]:
    """The server of a supervisor, one at a time; what it has adopted counts too."""
    return [child for child in descendants(pid) if parent_of(child) == pid][:1]


def noticed(asked: list[Asked], moment: float) -> dict[str, Any]:
    """Failures after a moment, and the longest time without a good answer."""
    failed = [a for a in asked if a.status != 200]
    good = sorted(a.done for a in asked if a.status == 200)
    gap = max((b - a for a, b in itertools.pairwise(good) if b > moment), default=0.0)
    statuses = collections.Counter(str(a.status) for a in failed)
    return {"asked": len(asked), "failed": len(failed), "silent_s": round(gap, 2), "statuses": dict(statuses)}


def terminated(home: Path, replicas: int, output: Path) -> dict[str, Any]:
    """SIGTERM while eight slow questions are being answered; what comes later is refused, and not counted."""
    with served(home, replicas, output) as server, ThreadPoolExecutor(8) as pool:
        load = Load(server.port)
        slow = [pool.submit(load.ask, k=500, explain=True) for _ in range(8)]
        time.sleep(0.05)
        below = descendants(server.process.pid)
        began = time.monotonic()
        server.process.terminate()
        answers = [future.result() for future in slow]
        server.process.wait(120)
    left = [pid for pid in below if Path(f"/proc/{pid}").exists()]
    statuses = collections.Counter(str(a.status) for a in answers if a.status != 200)
    return {
        "asked": len(answers),
        "failed": sum(statuses.values()),
        "silent_s": 0.0,
        "statuses": dict(statuses),
        "in_flight": sum(a.done > began for a in answers),
        "left_over": len(left),
        "ended_s": round(time.monotonic() - began, 1),
    }


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        part: {
            "times": len(runs),
            "failed": [run["failed"] for run in runs],
            "silent_s": [run["silent_s"] for run in runs],
            "statuses": dict(
                sum((collections.Counter(run["statuses"]) for run in runs), collections.Counter())
            ),
            **{
                key: [run[key] for run in runs]
                for key in ("noticed_s", "in_flight", "left_over", "ended_s")
                if key in runs[0]
            },
        }
        for part, runs in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=2)
    kinds = ["replica", "ingress", "ingress_actor", "controller", "store", "gcs", "raylet", "sigterm"]
    parser.add_argument("--parts", nargs="*", default=kinds, choices=kinds)
    parser.add_argument("--output", type=Path, default=Path(os.devnull), help="where the server's log goes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    rows: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="recray-kills-") as folder:
        home = Path(folder)
        publish_world(home / "store", SIZE)
        for part in options.parts:
            one_each = part in (*STARTED_AGAIN, "sigterm")
            for _ in range(options.times if one_each else 1):
                if part == "sigterm":
                    rows.setdefault(part, []).append(terminated(home, options.replicas, options.output))
                else:
                    with served(home, options.replicas, options.output) as server:
                        for _ in range(1 if one_each else options.times):
                            rows.setdefault(part, []).append(killed(server, part))
                            log.info("%s: %s", part, rows[part][-1])
            log.info("%s: %s", part, rows[part])
    print(json.dumps(summary(rows)))


if __name__ == "__main__":
    main()
