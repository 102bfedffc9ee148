"""``GET /drift``: the latest look, whoever took it."""

from collections.abc import Iterator

import pytest

from recray.monitor.drift_files import drift_dir, write_latest
from recray.monitor.drift_report import DriftReport, Sample
from recray.serve.http.gateway import create_app
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.store import Store
from tests.serve.asgi import Client
from tests.serve.world import APPLICATION


@pytest.fixture(scope="module")
def client(published: Store) -> Iterator[Client]:
    service = FusedService(ServiceConfig(application=APPLICATION, store=str(published.root)))
    yield Client(create_app(service))
    service.stop()


def test_the_latest_look(client: Client, published: Store) -> None:
    missing = client.get("/drift")
    assert (missing.status, missing.json["error"]) == (404, "not_looked_yet")
    window = Sample(since=0.0, until=1.0, rows=2, answers=1, users=1)
    report = DriftReport(application=APPLICATION, version=f"{APPLICATION}@1", at=1.0, window=window)
    folder = drift_dir(published.root, APPLICATION)
    folder.mkdir(parents=True)
    write_latest(folder, report)
    found = client.get("/drift")
    assert found.status == 200
    assert found.headers["content-type"] == "application/json"
    assert DriftReport.from_json(found.json) == report
