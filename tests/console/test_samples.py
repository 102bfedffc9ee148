"""Rates and quantiles between looks, against counts that are known."""

import numpy as np
import pytest

from recray.console.samples import Samples
from recray.serve.http import answers
from recray.serve.http.metrics import BUCKETS_S, GatewayMetrics

HEALTH: answers.Health = {
    "status": "ok",
    "serving": {},
    "loaded_at": None,
    "problem": None,
    "known_until": None,
    "age_s": None,
    "log": None,
}


def ask(metrics: GatewayMetrics, times_s: np.ndarray, errors: int = 0) -> None:
    for time_s in times_s:
        metrics._took({"total": 1e3 * time_s, "rank": 100 * time_s})
        metrics.answered("recommend", 200)
    for _ in range(errors):
        metrics.answered("recommend", 500)


def said(metrics: GatewayMetrics, replica: str = "a") -> str:
    return metrics.render(HEALTH).decode().replace("replica=", f'replica="{replica}",was=')


def test_rates_and_quantiles_are_those_since_the_look_before() -> None:
    metrics, samples, rng = GatewayMetrics(), Samples(), np.random.default_rng(0)
    ask(metrics, np.full(100, 3.0))  # long ago
    samples.look(said(metrics), 10.0)
    assert not samples.points
    times_s = rng.uniform(0.011, 0.024, 400)  # within one bucket: the middle is told by its edges
    ask(metrics, times_s, errors=100)
    samples.look(said(metrics), 20.0)
    point = samples.points[-1]
    assert point.requests_per_s == pytest.approx(50)
    assert point.errors == pytest.approx(0.2)
    edges = 1e3 * np.array([edge for edge in BUCKETS_S if 0.01 <= edge <= 0.025])
    assert point.p50_ms == pytest.approx(edges.mean(), abs=1e-6)
    assert point.p95_ms == pytest.approx(edges[0] + 0.95 * (edges[1] - edges[0]))
    low, high = samples.stages["rank"]
    assert low < high


def test_a_time_without_requests_has_no_quantiles() -> None:
    metrics, samples = GatewayMetrics(), Samples()
    ask(metrics, np.full(10, 0.01))
    for at in (1.0, 2.0):
        samples.look(said(metrics), at)
    point = samples.points[-1]
    assert (point.requests_per_s, point.errors, point.p50_ms, point.p95_ms) == (0, None, None, None)


def test_replicas_are_added_up_and_a_new_one_takes_nothing_away() -> None:
    one, other, samples = GatewayMetrics(), GatewayMetrics(), Samples()
    ask(one, np.full(50, 0.01))
    samples.look(said(one, "one"), 1.0)
    samples.look(said(other, "other"), 2.0)
    ask(other, np.full(30, 0.01))
    samples.look(said(other, "other"), 3.0)
    assert samples.points[-1].requests_per_s == pytest.approx(30)
    samples.look(said(GatewayMetrics(), "one"), 4.0)  # began anew: its counts fell
    assert samples.points[-1].requests_per_s == pytest.approx(30)  # of the other


def test_a_replica_counts_from_when_it_is_first_met_until_it_is_gone() -> None:
    one, other, samples = GatewayMetrics(), GatewayMetrics(), Samples()
    ask(other, np.full(1000, 0.01), errors=1000)  # long ago
    for metrics in (one, other):
        metrics.in_flight.inc()
    samples.look(said(one, "one"), 0.0)
    ask(one, np.full(20, 0.01))
    samples.look(said(one, "one"), 2.0)
    samples.look(said(other, "other"), 4.0)
    assert samples.points[-1] == samples.points[0]._replace(at=4.0, in_flight=2)
    ask(other, np.full(60, 0.01))
    samples.look(said(one, "one"), 6.0)
    samples.look(said(other, "other"), 8.0)
    assert samples.points[-1].requests_per_s == pytest.approx(60 / 4)  # one did nothing of late
    assert samples.points[-1].errors == 0
    for at in range(10, 70, 2):
        samples.look(said(one, "one"), at)
    assert samples.points[-1].in_flight == 1  # the other is gone


def test_slower_than_the_last_bucket_is_at_its_edge() -> None:
    metrics, samples = GatewayMetrics(), Samples()
    samples.look(said(metrics), 1.0)
    ask(metrics, np.full(10, 60.0))
    samples.look(said(metrics), 2.0)
    assert samples.points[-1].p95_ms == pytest.approx(1e3 * BUCKETS_S[-1])
