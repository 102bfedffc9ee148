"""The open-loop client: arrivals do not wait for answers, and waiting counts."""

import asyncio

import pytest

from benchmarks.open_load import RATES, OpenResult, drive, highest_in_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def asked(rate: float, answers: bytes = OK, takes_s: float = 0.0, at_once: int = 1_000) -> OpenResult:
    """The client's result against a server that takes so long, and answers so many at once."""

    async def both() -> OpenResult:
        free = asyncio.Semaphore(at_once)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(2**16):
                async with free:
                    await asyncio.sleep(takes_s)
                writer.write(answers)
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            return await drive(server.sockets[0].getsockname()[1], rate, 0.5, [{"n": 1}])

    return asyncio.run(both())


def test_arrivals_come_at_the_rate_and_are_all_answered() -> None:
    result = asked(rate=200)
    assert result.requests == result.answered > 50
    assert result.errors == 0
    assert asked(rate=200).requests == result.requests  # of one seed


def test_a_server_that_falls_behind_is_not_spared() -> None:
    """50 a second, one at a time; twice as many arrive, and the last wait half a second."""
    result = asked(rate=100, takes_s=0.02, at_once=1)
    assert result.answered == result.requests
    assert result.p99_ms is not None
    assert result.p99_ms > 200
    assert not result.in_time


def test_other_statuses_are_errors() -> None:
    result = asked(rate=100, answers=b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
    assert result.errors == result.requests > 0
    assert not result.in_time


@pytest.mark.parametrize("limit", [0.0, 25.0, 333.0, 1e9])
def test_bisection_finds_the_highest_rate_in_time(limit: float) -> None:
    def probe(rate: float) -> OpenResult:
        late_ms = 1.0 if rate <= limit else 50.0
        return OpenResult(rate, 100, 100, late_ms, late_ms, late_ms, 0, 0.1)

    best = highest_in_time(probe)
    assert (best.rate if best else 0.0) == max((rate for rate in RATES if rate <= limit), default=0.0)
