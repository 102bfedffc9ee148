"""Thousands of connections that mean no good: how much later the answers of all others come.

``python -m benchmarks.hostile`` serves a small application behind HAProxy, asks it 20 times a second on
connections of their own, and meanwhile, for each kind of attack, holds 5,000 connections for 60 s: idle, with
half a body, writing or reading a few bytes every five seconds, or all of these; what is closed comes again.
They come within 20 s, not at once: the same cores do the attackers' work of opening them. Slow readers ask
as they come; quick readers, who ask the same and read it at once, are their control: what both cost is the
load of the questions. The last line is one JSON object: p95 of the others while the connections come, while
they are held, just before and after, and its ratio to these.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.load_client import encode, quantile_ms
from benchmarks.overload import Clients
from benchmarks.serving_process import served
from benchmarks.serving_world import WorldSize, publish_world
from recray.serve.http.haproxy import free_port

log = logging.getLogger("benchmarks.hostile")

SIZE = WorldSize(num_items=3_000, num_users=1_000, num_events=30_000, train_queries=50, trees=30)
KINDS = ("idle", "half_body", "slow_writer", "slow_reader", "quick_reader", "mixed")
RATE = 20.0  # requests of others a second
BEAT_S = 5.0
AGAIN_AFTER_S = 0.5
COME_WITHIN_S = 20.0


async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    await reader.read()


async def half_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    writer.write(encode({"user_id": "1"}, port)[:-5])
    await reader.read()


async def slow_writer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    for byte in encode({"user_id": "1"}, port):
        writer.write(bytes([byte]))
        await asyncio.sleep(BEAT_S)
        if reader.at_eof():
            return


async def slow_reader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    writer.write(encode({"user_id": "1", "k": 500}, port))
    while await reader.read(200):
        await asyncio.sleep(BEAT_S)


async def quick_reader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    writer.write(encode({"user_id": "1", "k": 500}, port))
    await reader.read()


Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
ATTACKS: tuple[Attack, ...] = (idle, half_body, slow_writer, slow_reader)


async def hold(port: int, kind: str, count: int, seconds: float) -> dict[str, int]:
    """Attacks for so long; returns how many connections were held at most, and opened in all."""
    held, most, opened = 0, 0, 0

    async def one(attack: Attack, after_s: float) -> None:
        nonlocal held, most, opened
        await asyncio.sleep(after_s)
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                small = socket.socket()
                small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                small.setblocking(False)
                await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", port))
                reader, writer = await asyncio.open_connection(sock=small, limit=512)
                held, opened = held + 1, opened + 1
                most = max(most, held)
                try:
                    await attack(reader, writer, port)
                finally:
                    held -= 1
                    writer.close()
            await asyncio.sleep(AGAIN_AFTER_S)

    attacks = [ATTACKS[n % len(ATTACKS)] if kind == "mixed" else globals()[kind] for n in range(count)]
    tasks = [
        asyncio.create_task(one(attack, COME_WITHIN_S * number / count))
        for number, attack in enumerate(attacks)
    ]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    return {"held": most, "opened": opened}


async def others(port: int, seconds: float) -> dict[str, Any]:
    """Requests of somebody else, on a new connection each."""
    clients = Clients(port)
    request = encode({"user_id": "7"}, port).replace(b"host:", b"connection: close\r\nhost:")
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(seconds * RATE)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            tasks.create_task(clients.ask(request))
    took = sorted(a.took_s for a in clients.answered)
    return {
        "statuses": dict(collections.Counter(str(a.status) for a in clients.answered)),
        "p50_ms": quantile_ms(took, 0.5),
        "p95_ms": quantile_ms(took, 0.95),
    }


def attacked(port: int, kind: str, count: int, seconds: float) -> dict[str, Any]:
    """What others see before, during and after; the attackers are one process, of low priority."""
    quiet_s = seconds / 4
    before = asyncio.run(others(port, quiet_s))
    command = ["nice", "-n", "10", sys.executable, "-m", "benchmarks.hostile", "--hold", str(port), kind]
    command += ["--connections", str(count), "--seconds", str(seconds + COME_WITHIN_S + 5)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attackers:
        coming = asyncio.run(others(port, COME_WITHIN_S + 2.0))
        during = asyncio.run(others(port, seconds))
        assert attackers.stdout is not None
        found = json.loads(attackers.stdout.read())
    time.sleep(2.0)
    after = asyncio.run(others(port, quiet_s))
    quiet_ms = (before["p95_ms"] + after["p95_ms"]) / 2
    return {
        **found,
        "before": before,
        "coming": coming,
        "during": during,
        "after": after,
        "p95_ratio_coming": round(coming["p95_ms"] / quiet_ms, 2),
        "p95_ratio": round(during["p95_ms"] / quiet_ms, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--into", type=Path, help="a file for the results")
    parser.add_argument("--hold", nargs=2, metavar=("PORT", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.hold:
        port, kind = int(options.hold[0]), options.hold[1]
        print(json.dumps(asyncio.run(hold(port, kind, options.connections, options.seconds))))
        return
    results: dict[str, Any] = {
        "connections": options.connections,
        "cores": os.cpu_count(),
        "open_files": most,
    }
    with tempfile.TemporaryDirectory(prefix="recray-hostile-") as folder:
        publish_world(Path(folder) / "store", SIZE)
        port = free_port()
        with served("fused", Path(folder) / "store", port):
            for kind in options.kinds:
                results[kind] = attacked(port, kind, options.connections, options.seconds)
                log.info("%s: %s", kind, results[kind])
    if options.into:
        options.into.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
