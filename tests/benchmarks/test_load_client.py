"""The load client counts what a server really answered."""

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.load_client import LoadResult, drive, quantile_ms

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def loaded(answer: bytes, clients: int = 3, close_after: int | None = None) -> tuple[LoadResult, list[bytes]]:
    """The client's result against a server that always says ``answer``, and the bodies it received."""
    bodies: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        while served != close_after:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            bodies.append(await reader.readexactly(length))
            served += 1
            for half in (answer[: len(answer) // 2], answer[len(answer) // 2 :]):
                writer.write(half)
                await writer.drain()
                await asyncio.sleep(0.001)
        writer.close()

    async def both() -> LoadResult:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            return await drive(server.sockets[0].getsockname()[1], clients, 0.2, [{"n": 1}, {"n": 2}])

    return asyncio.run(both()), bodies


def test_answers_of_known_length_are_counted() -> None:
    result, bodies = loaded(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert result.requests == len(bodies) > 3
    assert [result.errors, result.clients] == [0, 3]
    assert set(bodies) == {b'{"n": 1}', b'{"n": 2}'}
    assert result.p50_ms is not None
    assert 2.0 <= result.p50_ms <= (result.p99_ms or 0)


def test_chunked_answers_are_counted() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    result, bodies = loaded(chunked)
    assert result.requests == len(bodies) > 3
    assert result.errors == 0


def test_other_statuses_are_errors() -> None:
    result, _ = loaded(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
    assert result.errors == result.requests > 0


def test_broken_connections_are_errors() -> None:
    result, _ = loaded(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", clients=4, close_after=2)
    assert [result.requests, result.errors] == [8, 4]


def test_quantiles() -> None:
    latencies_s = [n / 1000 for n in range(1, 101)]
    assert [quantile_ms(latencies_s, q) for q in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert quantile_ms([], 0.5) is None
