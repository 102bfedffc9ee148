"""OpenTelemetry: Serve makes spans of each request, sent to a collector with the times of the stages.

Off unless ``RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH`` names ``recray.serve.http.tracing:to_collector``. Where
the collector is, and what the service is called, is said by OpenTelemetry's own variables.
"""

import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from recray.config import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

HOOK = "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH"
_is_on = bool(os.environ.get(HOOK))


def to_collector() -> "list[SpanProcessor]":
    """What Serve asks for in each of its processes: sends spans by OTLP over HTTP, some at a time.

    Raises:
        ConfigError: the exporter is not installed.
    """
    if importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise ConfigError(f"{HOOK} needs opentelemetry-exporter-otlp-proto-http: install recray[traces]")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return [BatchSpanProcessor(OTLPSpanExporter())]


def note_stages(timings_ms: Mapping[str, float]) -> None:
    """Gives the span of this request, where there is one, the milliseconds of each stage."""
    if _is_on:
        from opentelemetry import trace

        span = trace.get_current_span()
        span.set_attributes({f"recray.{stage}_ms": spent for stage, spent in timings_ms.items()})
