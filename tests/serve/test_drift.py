"""``GET /drift``: the latest look, whoever took it."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recray.monitor.drift_files import LATEST, drift_dir, write_latest
from recray.monitor.drift_report import Alarm, Checked, DriftReport, FeatureDrift, Sample
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


def test_the_latest_look_as_gauges(client: Client, published: Store) -> None:
    folder = drift_dir(published.root, APPLICATION)
    test = Checked(test="ks", statistic=0.3, threshold=0.1, p_value=0.0, alarm=True)
    price = FeatureDrift(name="price", group="features", kind="numeric", tests=(test,), alarm=True)
    report = DriftReport(
        application=APPLICATION,
        version=f"{APPLICATION}@1",
        at=7.0,
        window=Sample(since=0.0, until=1.0, rows=2, answers=1, users=1),
        features=(price,),
        standing=(Alarm(name="price", since=7.0, sentence="price moved"),),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_latest(folder, report)
    assert gauges(client) == {
        ("recray_drift_looked_timestamp_seconds", ""): 7.0,
        ("recray_drift_alarms", ""): 1.0,
        ("recray_drift_answers", ""): 1.0,
        ("recray_drift_alarm", "price"): 1.0,
        ("recray_drift_of_threshold", "price"): pytest.approx(3.0),
    }
    for damaged in (b"{", b"\xff", b""):
        (folder / LATEST).write_bytes(damaged)
        assert gauges(client) == {}, "a damaged report costs no other number"
        answer = client.get("/drift")
        assert (answer.status, answer.json["error"]) == (503, "look_unreadable")


def gauges(client: Client) -> dict[tuple[str, str], float]:
    """Of drift, by name and feature."""
    scraped = client.get("/metrics")
    assert scraped.status == 200
    families = list(text_string_to_metric_families(scraped.body.decode()))
    assert any(family.name == "recray_degraded" for family in families)
    samples = [sample for family in families for sample in family.samples if "_drift_" in sample.name]
    assert all(sample.labels["application"] == APPLICATION for sample in samples)
    return {(sample.name, sample.labels.get("feature", "")): sample.value for sample in samples}
