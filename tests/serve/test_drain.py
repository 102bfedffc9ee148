"""What is under way when the application is stopped is answered."""

import http.client
import threading
import time
from urllib.parse import urlsplit

import pytest

from recray.serve.http.haproxy import free_port
from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.store import Store
from tests.serve.world import APPLICATION

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_requests_under_way_are_answered_while_it_stops(ray_cluster: None, published: Store) -> None:
    from recray.serve.place.deployments import start, stop

    config = ServiceConfig(application=APPLICATION, store=str(published.root))
    address = urlsplit(start(config, PlacementConfig(cpus_per_replica=0.5), port=free_port())).netloc
    stopping = threading.Event()
    asked: list[tuple[float, float, int | str]] = []

    def ask() -> None:
        # One connection, so that all that is under way has been accepted.
        connection = http.client.HTTPConnection(address, timeout=30)
        while not stopping.is_set():
            began = time.monotonic()
            try:
                connection.request("POST", "/recommend", b'{"k": 300}', {"content-type": "application/json"})
                response = connection.getresponse()
                outcome: int | str = response.status
                response.read()
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            asked.append((began, time.monotonic(), outcome))
        connection.close()

    askers = [threading.Thread(target=ask) for _ in range(32)]
    for asker in askers:
        asker.start()
    while not any(outcome == 200 for _, _, outcome in asked):
        time.sleep(0.1)
    stopping.set()
    stopped_at = time.monotonic()
    stop()
    for asker in askers:
        asker.join()
    # What is sent at the very moment may meet an idle connection that is being closed.
    arrived_by = stopped_at - 0.005
    under_way = [outcome for began, ended, outcome in asked if began <= arrived_by and stopped_at < ended]
    assert under_way
    assert set(under_way) == {200}
