"""Four times the load that a server can bear: what is refused, how late the rest is, and when it is over.

``python -m benchmarks.overload`` serves 62,000 items behind HAProxy in one replica, measures its capacity
(16 closed-loop clients), then sends four times as many requests a second for 30 s, whatever comes back
(open loop, Poisson), and asks on until answers are as quick as before. The last line is one JSON object.
"""

import argparse
import asyncio
import collections
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load_client import encode, quantile_ms, run
from benchmarks.serving_process import served
from benchmarks.serving_world import WorldSize, publish_world
from recray.serve.http.haproxy import free_port

log = logging.getLogger("benchmarks.overload")

BUDGET_MS = 250.0
RECOVERED_AFTER = 20  # answers in a row within the budget
ANSWER_WITHIN_S = 30.0
CONNECTIONS = 512


@dataclass(frozen=True)
class Answered:
    sent: float
    took_s: float
    status: int  # 0: none


class Clients:
    """Keep-alive connections, of which each request takes one that is free, or opens another."""

    def __init__(self, port: int) -> None:
        self._port, self._free = port, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
        self.answered = list[Answered]()

    async def ask(self, request: bytes) -> None:
        sent, status = time.monotonic(), 0
        try:
            status = await asyncio.wait_for(self._ask(request), ANSWER_WITHIN_S)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("%r", error)
        self.answered.append(Answered(sent, time.monotonic() - sent, status))

    async def _ask(self, request: bytes) -> int:
        reader, writer = (
            self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        )
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"content-length:" in head:
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        else:
            await reader.readuntil(b"0\r\n\r\n")
        if b"connection: close" in head or len(self._free) >= CONNECTIONS:
            writer.close()
        else:
            self._free.append((reader, writer))
        return int(head[9:12])


async def flood(port: int, rate: float, seconds: float, bodies: list[Any]) -> dict[str, Any]:
    """Requests at Poisson times, then a few one after another until the server is itself again."""
    clients, random_ = Clients(port), random.Random(0)
    requests = [encode(body, port) for body in bodies]
    began, due = time.monotonic(), 0.0
    async with asyncio.TaskGroup() as tasks:
        while due < seconds:
            due += random_.expovariate(rate)
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
            tasks.create_task(clients.ask(random_.choice(requests)))
            if time.monotonic() - began > seconds:
                break
        over = time.monotonic()
        recovery_s = await recovered(port, requests[0], over)
    took = sorted(a.took_s for a in clients.answered if a.status == 200)
    refused = sorted(a.took_s for a in clients.answered if a.status == 429)
    return {
        "sent_per_s": round(len(clients.answered) / (over - began), 1),
        "statuses": dict(collections.Counter(str(a.status) for a in clients.answered)),
        "overload_errors": sum(a.status not in (200, 429) for a in clients.answered),
        "accepted_per_s": round(len(took) / (over - began), 1),
        "accepted_p95_ms": quantile_ms(took, 0.95),
        "refused_p95_ms": quantile_ms(refused, 0.95),
        "recovery_s": round(recovery_s, 2),
    }


async def recovered(port: int, request: bytes, over: float) -> float:
    """Seconds until answers are good and within the budget, so many in a row; of the first of them."""
    clients, good, since = Clients(port), 0, over
    while good < RECOVERED_AFTER:
        await clients.ask(request)
        last = clients.answered[-1]
        fine = last.status == 200 and last.took_s < BUDGET_MS / 1e3
        good, since = (good + 1, since) if fine else (0, time.monotonic())
    return since - over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--times", type=float, default=4.0, help="of the capacity")
    parser.add_argument("--items", type=int, default=WorldSize().num_items)
    parser.add_argument("--flood", nargs=2, metavar=("PORT", "RATE"), help=argparse.SUPPRESS)
    parser.add_argument("--bodies", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.flood:
        port, rate = int(options.flood[0]), float(options.flood[1])
        bodies = json.loads(options.bodies.read_text())
        print(json.dumps(asyncio.run(flood(port, rate, options.seconds, bodies))))
        return
    with tempfile.TemporaryDirectory(prefix="recray-bench-") as folder:
        root, bodies_file = Path(folder) / "store", Path(folder) / "bodies.json"
        size = WorldSize(num_items=options.items)
        publish_world(root, size)
        bodies_file.write_text(
            json.dumps([{"user_id": str(n), "k": 10} for n in range(0, size.num_users, 7)])
        )
        port = free_port()
        with served("fused", root, port):
            run(port, 16, 3.0, bodies_file)  # warm-up
            capacity = run(port, 16, 6.0, bodies_file)
            log.info("capacity: %s", capacity)
            command = [sys.executable, "-m", "benchmarks.overload", "--bodies", str(bodies_file)]
            command += ["--seconds", str(options.seconds)]
            command += ["--flood", str(port), str(options.times * capacity.requests_per_s)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
    flooded = json.loads(done.stdout)
    print(json.dumps({**flooded, "budget_ms": BUDGET_MS, "capacity": asdict(capacity)}))


if __name__ == "__main__":
    main()
