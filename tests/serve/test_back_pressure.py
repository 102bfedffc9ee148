"""More requests than there are places: quick refusals that say when to come back, and no other failure."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI

from recray.serve.http.haproxy import free_port
from recray.serve.place.config import PlacementConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PLACES, QUEUED, AT_ONCE = 4, 8, 64


class SlowIngress:
    """Answers after a second."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = FastAPI()

        @app.post("/recommend")
        async def recommend() -> str:
            await asyncio.sleep(1.0)
            return "done"

        return app


@pytest.fixture
def port(ray_cluster: None) -> Iterator[int]:
    from ray import serve

    from recray.serve.place.deployments import deployment, open_to, stop

    port = free_port()
    placement = PlacementConfig(
        replicas=1, max_ongoing_requests=PLACES, max_queued_requests=QUEUED, retry_after_s=3.0
    )
    open_to(placement, "127.0.0.1", port)
    serve.run(deployment(serve.ingress()(SlowIngress), "slow", 1, placement, QUEUED).bind(), name="slow")
    yield port
    stop()


def ask(port: int) -> tuple[int, str | None]:
    """(status, what it says of coming back)"""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/recommend", json.dumps({}), {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("retry-after")


def test_whoever_would_wait_too_long_is_refused_and_told_when_to_come_back(port: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: ask(port), range(AT_ONCE)))
    assert {status for status, _ in answers} == {200, 429}
    refused = [after for status, after in answers if status == 429]
    assert set(refused) == {"3"}
    # A few more are let in where the count of those who wait is a moment old.
    assert PLACES + QUEUED <= AT_ONCE - len(refused) < AT_ONCE / 2
    assert ask(port) == (200, None)
