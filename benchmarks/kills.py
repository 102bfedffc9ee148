"""What clients notice of faults: requests that failed, seconds without an answer, under constant load.

``python -m benchmarks.kills --times 5`` serves a small application by ``jobs/serve.py`` (two replicas), asks
it all the time (open loop: a late answer delays no question), kills one part after another with SIGKILL,
takes its store or its disk away, and waits until all is back. The last line is one JSON object, by fault;
``--into FILE`` also puts it beside what that file says of other faults.
"""

import argparse
import collections
import contextlib
import json
import logging
import os
import platform
import random
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.constant_load import Load
from benchmarks.faults import FAULTS, ON_A_SMALL_DISK, WITH_REDIS, Fault, Server, mount, served, wait_for
from benchmarks.serving_world import WorldSize, publish_world
from recray.serve.http.haproxy_keeper import parent_of
from recray.serve.place.supervisor import descendants

log = logging.getLogger("benchmarks.kills")

SIZE = WorldSize(num_items=3_000, num_users=1_000, num_events=30_000, train_queries=50, trees=30)
BACK_WITHIN_S = 180.0
DEATHS_OF_A_SERVER = 4  # the supervisor gives up after five
DISK = "512m"
OURS = re.compile(
    r"\d\d:\d\d:\d\d ((?!serving ).*)|(?:WARNING|ERROR) .* -- (.*)"
)  # the server's lines, and its replicas'


def faulty(server: Server, fault: Fault, rate: float, output: Path) -> dict[str, Any]:
    """One fault, and what was noticed until everything was answered again, by all replicas."""
    wait_for(lambda: fault.can_happen(server), BACK_WITHIN_S)
    logs = [output, *server.home.glob("ray/session_latest/logs/serve/replica*.log")]
    sizes = {file: file.stat().st_size for file in logs}
    with Load(server.port, rate) as load:
        time.sleep(2.0 + random.random() / rate)  # at any time between two questions
        before, moment = _children(server.process.pid), time.monotonic()
        noticed_s: list[float] = []
        fault.happen(server)

        def back() -> bool:
            if not noticed_s and _children(server.process.pid) != before:
                noticed_s.append(round(time.monotonic() - moment, 1))
            return load.is_back_since(moment)

        wait_for(back, BACK_WITHIN_S)
        wait_for(server.is_whole, BACK_WITHIN_S)
        found = {**load.noticed(moment), "whole_s": round(time.monotonic() - moment, 1)}
    if fault.kills_server:
        found["noticed_s"] = noticed_s
        found["left_over"] = len({*before} & {*descendants(server.process.pid)})
    return {**found, "log": dict(collections.Counter(_lines(sizes)))}


def _children(pid: int) -> list[int]:
    """The server of a supervisor, one at a time; what it has adopted counts too."""
    return [child for child in descendants(pid) if parent_of(child) == pid][:1]


def _lines(sizes: dict[Path, int]) -> Iterator[str]:
    """What was logged since files had these sizes, without numbers and paths."""
    for file, size in sizes.items():
        with contextlib.suppress(OSError), file.open("rb") as opened:
            opened.seek(size)
            for line in opened.read().decode(errors="replace").splitlines():
                if match := OURS.fullmatch(line.strip()):
                    yield re.sub(r"\d+(\.\d+)?", "N", re.sub(r"/\S+", "PATH", match[1] or match[2]))[:110]


def terminated(home: Path, replicas: int, output: Path) -> dict[str, Any]:
    """SIGTERM while 32 clients wait for their answers; what comes later is refused, and not asked."""
    stopping = threading.Event()
    with served(home, replicas, output) as server, ThreadPoolExecutor(32) as pool:
        load = Load(server.port, 0.0)

        def ask_on() -> None:
            while not stopping.is_set():
                load.ask(k=300)

        clients = [pool.submit(ask_on) for _ in range(32)]
        time.sleep(1.0 + random.random() / 10)
        below = descendants(server.process.pid)
        stopping.set()
        began = time.monotonic()
        server.process.terminate()
        for client in clients:
            client.result()
        server.process.wait(120)
    return {
        **load.noticed(began),
        "silent_s": 0.0,
        "in_flight": sum(a.done > began for a in load.asked),
        "left_over": len([pid for pid in below if Path(f"/proc/{pid}").exists()]),
        "ended_s": round(time.monotonic() - began, 1),
    }


def times_of(name: str, options: argparse.Namespace, home: Path, output: Path) -> Iterator[dict[str, Any]]:
    times, replicas = options.times, options.replicas
    if name == "sigterm":
        for _ in range(times):
            yield terminated(home, replicas, output)
        return
    fault, done = FAULTS[name], 0
    while done < times:
        most = DEATHS_OF_A_SERVER if fault.kills_server else times
        with served(home, replicas, output, with_redis=name in WITH_REDIS) as server:
            for _ in range(min(most, times - done)):
                yield faulty(server, fault, options.rate, output)
                done += 1


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one fault: the figures of each time, and how often each thing was answered and logged in all."""
    said: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for run in runs:
        for path, answers in run["said"].items():
            said[path].update(answers)
    each = ("asked", "failed", "silent_s", "whole_s", "noticed_s", "in_flight", "left_over", "ended_s")
    return {
        "times": len(runs),
        **{key: [run[key] for run in runs] for key in each if key in runs[0]},
        "statuses": _sum(run["statuses"] for run in runs),
        "said": {path: dict(answers.most_common(6)) for path, answers in said.items()},
        "log": dict(collections.Counter(_sum(run.get("log", {}) for run in runs)).most_common(6)),
    }


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for count in counts:
        total.update(count)
    return dict(total)


@contextlib.contextmanager
def folder(names: list[str]) -> Iterator[Path]:
    """A home; on a disk of its own where a fault is to fill that."""
    with tempfile.TemporaryDirectory(prefix="rk-", dir="/tmp") as name:  # Ray's sockets want short names
        small = bool({*ON_A_SMALL_DISK} & {*names})
        if small:
            mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", name)
        try:
            yield Path(name)
        finally:
            if small:
                subprocess.run(["umount", "--lazy", name], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rate", type=float, default=10.0, help="questions a second")
    kinds = [*FAULTS, "sigterm"]
    parser.add_argument("--parts", nargs="*", default=kinds, choices=kinds)
    parser.add_argument("--output", type=Path, help="where the server's log goes")
    parser.add_argument("--into", type=Path, help="a file of results, of which other parts are kept")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    results: dict[str, Any] = {}
    with folder(options.parts) as home, tempfile.TemporaryDirectory() as logs:
        publish_world(home / "store", SIZE)
        output = options.output or Path(logs) / "server.log"
        output.touch()
        for part in options.parts:
            runs = []
            for run in times_of(part, options, home, output):
                runs.append(run)
                log.info("%s: %s", part, run)
                results[part] = {**summary(runs), "replicas": options.replicas, "rate": options.rate}
                results[part]["machine"] = f"{os.cpu_count()} cores, {platform.machine()}"
                if options.into:
                    before = json.loads(options.into.read_text()) if options.into.exists() else {}
                    options.into.write_text(json.dumps({**before, **results}, indent=1) + "\n")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
