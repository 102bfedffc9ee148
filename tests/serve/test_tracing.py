"""Spans of requests arrive at a collector: ``jobs/serve.py``, and a receiver of OTLP that keeps them."""

import contextlib
import http.client
import http.server
import json
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from recray.config import ConfigError
from recray.serve.http import tracing
from recray.store import Store
from tests.serve.test_alive import eventually, serving_job

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(http.server.BaseHTTPRequestHandler):
    spans: list[Span] = []  # noqa: RUF012

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[int]:
    """Its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.ray
@pytest.mark.slow
def test_a_collector_gets_a_span_of_each_request_with_its_stages(published: Store, collector: int) -> None:
    environment = {
        tracing.HOOK: "recray.serve.http.tracing:to_collector",
        "RAY_SERVE_TRACING_SAMPLING_RATIO": "1.0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with serving_job(published, environment) as served:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        headers = {
            "content-type": "application/json",
            "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
            "x-request-id": "mine-1",
        }
        with contextlib.closing(connection):
            connection.request("POST", "/recommend", json.dumps({}), headers)
            assert connection.getresponse().status == 200
        eventually(lambda: any(span.trace_id.hex() == TRACE for span in Collector.spans))
    spans = [span for span in Collector.spans if span.trace_id.hex() == TRACE]
    assert {"b7ad6b7169203331"} <= {span.parent_span_id.hex() for span in spans}
    ids = [said["request_id"] for span in spans if "request_id" in (said := attributes(span))]
    assert ids
    assert {found.string_value for found in ids} == {"mine-1"}
    (staged,) = [said for span in spans if "recray.total_ms" in (said := attributes(span))]
    assert 0 < staged["recray.retrieve_ms"].double_value < staged["recray.total_ms"].double_value


def attributes(span: Span) -> dict[str, AnyValue]:
    return {attribute.key: attribute.value for attribute in span.attributes}


def test_without_the_exporter_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"install recray\[traces\]"):
        tracing.to_collector()
