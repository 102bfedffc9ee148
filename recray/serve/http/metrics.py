"""What the gateway counts, for Prometheus. Each gateway has a registry of its own."""

import os
import socket
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest

from recray.serve.http import answers
from recray.serve.http.bodies import REFUSED
from recray.serve.http.drift_metrics import DriftMetrics
from recray.serve.http.log_metrics import LogMetrics
from recray.serve.http.tracing import note_stages

# Stages take tenths of a millisecond, a full catalogue scan tens of milliseconds, a queue seconds.
BUCKETS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)


class _OfReplica:
    """A registry whose every series carries the process that counted: a scrape through a load balancer
    meets one replica or another, and counts of two must not look like one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry, self._replica = registry, f"{socket.gethostname()}-{os.getpid()}"

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample._replace(labels={**sample.labels, "replica": self._replica})
                for sample in metric.samples
            ]
            yield metric


class GatewayMetrics:
    """Counts of one process; a deployment of several replicas is scraped at each of them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(REFUSED)
        self.in_flight = Gauge(
            "recray_requests_in_flight", "Requests that are being answered.", registry=self.registry
        )
        self._queue = Histogram(
            "recray_queue_seconds",
            "From the whole request to the application: the wait for a place, and for its turn.",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._requests = Counter(
            "recray_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "recray_stage_seconds",
            "Time in each stage.",
            ["stage"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._fallbacks = Counter(
            "recray_fallbacks", "Answers without a user's own vector.", ["fallback"], registry=self.registry
        )
        self._skipped = Counter(
            "recray_skipped", "Stages left out of answers.", ["stage", "reason"], registry=self.registry
        )
        self._cached = Counter("recray_cached", "Answers that were given before.", registry=self.registry)
        self._arms = Counter(
            "recray_arm_requests",
            "Answers of experiments; by both arms where lists are interleaved.",
            ["experiment", "arm", "version", "outcome"],
            registry=self.registry,
        )
        self._arm_seconds = Histogram(
            "recray_arm_seconds",
            "Time of answers of experiments.",
            ["experiment", "arm"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._rows = Counter("recray_rows_scored", "Rows in the answers of /score.", registry=self.registry)
        self._unknown = Counter(
            "recray_unknown_categories",
            "Values that training did not have.",
            ["column"],
            registry=self.registry,
        )
        self._version = Gauge(
            "recray_version_info",
            "Versions served now.",
            ["role", "name", "version", "digest"],
            registry=self.registry,
        )
        self._degraded = Gauge(
            "recray_degraded", "1 where a newer version does not load.", registry=self.registry
        )
        self._log = LogMetrics()
        self._drift = DriftMetrics()
        self.registry.register(self._log)
        self.registry.register(self._drift)
        # Looking a label up costs more than counting: what the hot path uses is kept.
        self._recommended = self._requests.labels("recommend", "200")
        self._stages: dict[str, Histogram] = {}

    def recommended(self, answer: answers.Recommendations) -> None:
        """One answer of ``POST /recommend``."""
        self._recommended.inc()
        self._took(answer["timings_ms"])
        if "cached_s" in answer:
            self._cached.inc()
        if answer["fallback"]:
            self._fallbacks.labels(answer["fallback"]).inc()
        if "arm" in answer:
            self._of_arm(answer, answer["arm"])
        for skipped in answer["skipped"]:
            self._skipped.labels(skipped["stage"], skipped["reason"]).inc()

    def _of_arm(self, answer: answers.Recommendations, shown: answers.ArmShown) -> None:
        outcome = "failed" if shown["failed"] else "answered" if answer["items"] else "empty"
        served = answer["version"].get("ranker") or answer["version"]["retriever"]
        experiment, arm = shown["experiment"], shown["arm"] or "both"
        self._arms.labels(experiment, arm, str(served["version"]), outcome).inc()
        self._arm_seconds.labels(experiment, arm).observe(answer["timings_ms"]["total"] / 1e3)

    def scored(self, answer: answers.Scores) -> None:
        """One answer of ``POST /score``."""
        self.answered("score", 200)
        self._took(answer["timings_ms"])
        self._rows.inc(len(answer["scores"]))
        for column, count in answer["unknown"].items():
            self._unknown.labels(column).inc(count)

    def _took(self, timings_ms: dict[str, float]) -> None:
        note_stages(timings_ms)
        for stage, elapsed_ms in timings_ms.items():
            histogram = self._stages.get(stage)
            if histogram is None:
                histogram = self._stages[stage] = self._seconds.labels(stage)
            histogram.observe(elapsed_ms / 1e3)

    def waited(self, elapsed_s: float) -> None:
        """A request reached the application so long after it was whole."""
        self._queue.observe(elapsed_s)

    def answered(self, route: str, status: int) -> None:
        """Any other answer."""
        self._requests.labels(route, str(status)).inc()

    def render(self, health: answers.Health, drift: bytes | None = None) -> bytes:
        """The text that Prometheus scrapes.

        Args:
            drift: the latest report, JSON; None: there is none.
        """
        self._version.clear()
        for role, served in health["serving"].items():
            self._version.labels(role, served["name"], str(served["version"]), served["digest"]).set(1)
        self._degraded.set(health["status"] != "ok")
        self._log.now = health["log"]
        self._drift.note(drift)
        return generate_latest(_OfReplica(self.registry))
