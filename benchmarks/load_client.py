"""A closed-loop HTTP load client: N keep-alive connections, each sends its next request on an answer.

Raw sockets on asyncio, in a process of its own, so that the client costs the machine little:
``python -m benchmarks.load_client --port 8000 --clients 32 --seconds 5 --bodies bodies.json`` prints JSON.
"""

import argparse
import asyncio
import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RECOMMEND = "/recommend"
DRAIN_S = 30.0  # how long answers to requests already sent are waited for


@dataclass(frozen=True)
class LoadResult:
    """What one run of the client saw."""

    clients: int
    seconds: float
    requests: int
    requests_per_s: float
    p50_ms: float | None  # None: nothing was answered
    p95_ms: float | None
    p99_ms: float | None
    errors: int  # answers that were neither 200 nor 202, and connections that broke or never answered
    replica_cpu_ms: float | None = (
        None  # CPU time of the server's replicas per request, where it was looked at
    )


class Connection(asyncio.Protocol):
    """Asks one thing at a time. Understands ``content-length`` and ``chunked`` answers."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._asked_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.latencies_s: list[float] = []
        self.errors = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.go_on()

    def ask(self, request: bytes, asked_at: float) -> None:
        """Its latency counts from ``asked_at``, on the clock of ``time.perf_counter``."""
        assert self._transport is not None
        self._asked_at = asked_at
        self._transport.write(request)

    def go_on(self) -> None:
        """Called when the connection is there, and after each answer."""
        raise NotImplementedError

    def close(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0 or not self._is_complete(head):
            return
        self.latencies_s.append(time.perf_counter() - self._asked_at)
        self.errors += bytes(self._buffer[9:12]) not in (b"200", b"202")
        self._buffer.clear()
        self.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.errors += 1
            self.done.set_result(None)

    def _is_complete(self, head: int) -> bool:
        headers = bytes(self._buffer[:head]).lower()
        start = headers.find(b"content-length:")
        if start >= 0:
            length = int(headers[start + 15 :].split(b"\r\n", 1)[0])
            return len(self._buffer) >= head + 4 + length
        return self._buffer.endswith(b"0\r\n\r\n")


class Client(Connection):
    """Asks again as soon as it is answered."""

    def __init__(self, requests: "itertools.cycle[bytes]", stop_at: float) -> None:
        super().__init__()
        self._requests, self._stop_at = requests, stop_at

    def go_on(self) -> None:
        now = time.perf_counter()
        if now >= self._stop_at:
            self.close()
        else:
            self.ask(next(self._requests), now)


def encode(body: object, port: int, path: str = RECOMMEND) -> bytes:
    """One ``POST`` as it goes over the wire."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def drive(
    port: int, clients: int, seconds: float, bodies: Sequence[object], path: str = RECOMMEND
) -> LoadResult:
    """Loads ``127.0.0.1:port`` for so many seconds."""
    loop = asyncio.get_running_loop()
    requests = itertools.cycle([encode(body, port, path) for body in bodies])
    began = time.perf_counter()
    stop_at = began + seconds
    opened = [
        loop.create_connection(lambda: Client(requests, stop_at), "127.0.0.1", port) for _ in range(clients)
    ]
    connections = [protocol for _, protocol in await asyncio.gather(*opened)]
    _, late = await asyncio.wait([c.done for c in connections], timeout=seconds + DRAIN_S)
    elapsed_s = time.perf_counter() - began
    latencies_s = sorted(itertools.chain.from_iterable(c.latencies_s for c in connections))
    return LoadResult(
        clients=clients,
        seconds=round(elapsed_s, 2),
        requests=len(latencies_s),
        requests_per_s=round(len(latencies_s) / elapsed_s, 1),
        p50_ms=quantile_ms(latencies_s, 0.50),
        p95_ms=quantile_ms(latencies_s, 0.95),
        p99_ms=quantile_ms(latencies_s, 0.99),
        errors=sum(c.errors for c in connections) + len(late),
    )


def quantile_ms(latencies_s: Sequence[float], q: float) -> float | None:
    """The smallest latency that a share q of the sorted latencies does not exceed."""
    if not latencies_s:
        return None
    return round(1e3 * latencies_s[max(0, math.ceil(q * len(latencies_s)) - 1)], 3)


def run(port: int, clients: int, seconds: float, bodies: Path, path: str = RECOMMEND) -> LoadResult:
    """``drive`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load_client", "--port", str(port)]
    command += ["--clients", str(clients), "--seconds", str(seconds), "--bodies", str(bodies)]
    command += ["--path", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + DRAIN_S + 60, check=True)
    return LoadResult(**json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--bodies", type=Path, required=True, help="JSON list of request bodies, cycled")
    parser.add_argument("--path", default=RECOMMEND)
    options = parser.parse_args()
    bodies = json.loads(options.bodies.read_text())
    result = asyncio.run(drive(options.port, options.clients, options.seconds, bodies, options.path))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
