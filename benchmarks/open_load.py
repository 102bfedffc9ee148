"""An open-loop HTTP load client: requests arrive by chance (Poisson), whether or not others were answered.

A request counts from the moment at which it arrived, also where it had to wait for a connection: a server
that falls behind is not spared, as it is by clients that wait for it. In a process of its own:
``python -m benchmarks.open_load --port 8000 --rate 200 --seconds 3 --bodies bodies.json`` prints JSON.
"""

import argparse
import asyncio
import itertools
import json
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.load_client import Connection, encode, quantile_ms

CONNECTIONS = 64
DRAIN_S = 5.0  # how long answers are waited for after the last arrival
LATE_MS = 20.0  # p99 that an answer may take
RATES = tuple(25.0 * 2 ** (n / 8) for n in range(64))  # 25 to 5,870 requests/s, 9% apart


@dataclass(frozen=True)
class OpenResult:
    """What one run of the client saw."""

    rate: float  # arrivals per second that were asked for
    requests: int  # that arrived
    answered: int
    p50_ms: float | None  # None: nothing was answered
    p95_ms: float | None
    p99_ms: float | None
    errors: int  # answers that were not 200, and arrivals without one
    client_cores: float  # that this client kept busy

    @property
    def in_time(self) -> bool:
        return not self.errors and self.p99_ms is not None and self.p99_ms <= LATE_MS


class _Pooled(Connection):
    """Takes what has waited longest, or waits itself."""

    def __init__(self, waiting: "deque[tuple[bytes, float]]", idle: "list[_Pooled]") -> None:
        super().__init__()
        self._waiting, self._idle = waiting, idle

    def go_on(self) -> None:
        if self._waiting:
            self.ask(*self._waiting.popleft())
        else:
            self._idle.append(self)


async def drive(
    port: int, rate: float, seconds: float, bodies: Sequence[object], seed: int = 0
) -> OpenResult:
    """Loads ``127.0.0.1:port`` for so many seconds."""
    loop, rng = asyncio.get_running_loop(), random.Random(seed)
    requests = itertools.cycle([encode(body, port) for body in bodies])
    waiting: deque[tuple[bytes, float]] = deque()
    idle: list[_Pooled] = []
    opened = [
        loop.create_connection(lambda: _Pooled(waiting, idle), "127.0.0.1", port) for _ in range(CONNECTIONS)
    ]
    connections = [protocol for _, protocol in await asyncio.gather(*opened)]
    began, worked, arrivals = time.perf_counter(), time.process_time(), 0
    due = began + rng.expovariate(rate)
    while due < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        waiting.append((next(requests), due))
        arrivals += 1
        due += rng.expovariate(rate)
        if idle:
            idle.pop().go_on()
    cores = (time.process_time() - worked) / (time.perf_counter() - began)
    give_up = time.perf_counter() + DRAIN_S
    while len(idle) < len(connections) and time.perf_counter() < give_up:
        await asyncio.sleep(0.01)
    latencies_s = sorted(itertools.chain.from_iterable(c.latencies_s for c in connections))
    wrong = sum(c.errors for c in connections)
    for connection in connections:
        connection.close()
    return OpenResult(
        rate=round(rate, 1),
        requests=arrivals,
        answered=len(latencies_s),
        p50_ms=quantile_ms(latencies_s, 0.50),
        p95_ms=quantile_ms(latencies_s, 0.95),
        p99_ms=quantile_ms(latencies_s, 0.99),
        errors=wrong + arrivals - len(latencies_s),
        client_cores=round(cores, 3),
    )


def run(port: int, rate: float, seconds: float, bodies: Path) -> OpenResult:
    """``drive`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.open_load", "--port", str(port), "--rate", str(rate)]
    command += ["--seconds", str(seconds), "--bodies", str(bodies)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + DRAIN_S + 60, check=True)
    return OpenResult(**json.loads(done.stdout))


def highest_in_time(probe: Callable[[float], OpenResult]) -> OpenResult | None:
    """The result at the highest of ``RATES`` that is answered in time, by bisection; None: none is.

    A rate that is not has a second try: on a shared machine a bad moment would halve the answer.
    """
    best, low, high = None, 0, len(RATES)
    while low < high:
        middle = (low + high) // 2
        result = probe(RATES[middle])
        if not result.in_time:
            result = probe(RATES[middle])
        if result.in_time:
            best, low = result, middle + 1
        else:
            high = middle
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="arrivals per second")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--bodies", type=Path, required=True, help="JSON list of request bodies, cycled")
    options = parser.parse_args()
    bodies = json.loads(options.bodies.read_text())
    print(json.dumps(asdict(asyncio.run(drive(options.port, options.rate, options.seconds, bodies)))))


if __name__ == "__main__":
    main()
