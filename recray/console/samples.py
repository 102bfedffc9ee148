"""Rates and quantiles between two looks at a server's counters.

Behind several replicas a look meets one of them: of each what it did since it was met before is a rate, and
the rates of all are added up. One that is met for the first time has done what it did before; one that is
not met any more is gone.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = frozenset[tuple[str, str]]
Counts: TypeAlias = dict[tuple[str, Labels], float]

KEPT = 300  # looks
GONE_S = 60.0


class Point(NamedTuple):
    """What one look says of the time since the one before."""

    at: float  # unix seconds
    requests_per_s: float
    errors: float | None  # share of the requests; None: there were none
    p50_ms: float | None
    p95_ms: float | None
    in_flight: float


class _Met(NamedTuple):
    """A replica, when it was met last."""

    at: float  # unix seconds
    counts: Counts
    rates: Counts | None  # each second since it was met before; None: it was not


@dataclass
class Samples:
    """Looks at ``/metrics``, oldest first."""

    points: deque[Point] = field(default_factory=lambda: deque(maxlen=KEPT))
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)  # p50 and p95 ms since the start
    _by_replica: dict[str, _Met] = field(default_factory=dict)

    def look(self, text: str, now: float | None = None) -> None:
        """Takes in what ``/metrics`` said."""
        now = time.time() if now is None else now
        for replica, counts in _read(text).items():
            met = self._by_replica.get(replica)
            self._by_replica[replica] = _Met(now, counts, _rates(met, counts, now) if met else None)
        self._by_replica = {name: met for name, met in self._by_replica.items() if now - met.at < GONE_S}
        total = _added(met.counts for met in self._by_replica.values())
        if rates := [met.rates for met in self._by_replica.values() if met.rates is not None]:
            self.points.append(_point(_added(rates), total, now))
        stages = {dict(labels)["stage"] for name, labels in total if name == "recray_stage_seconds_bucket"}
        found = {stage: (_quantile(total, stage, 0.5), _quantile(total, stage, 0.95)) for stage in stages}
        self.stages = {stage: (low, high) for stage, (low, high) in found.items() if low and high}


def _read(text: str) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            replica = labels.pop("replica", "")
            found.setdefault(replica, {})[sample.name, frozenset(labels.items())] = sample.value
    return found


def _rates(met: _Met, counts: Counts, now: float) -> Counts | None:
    if now <= met.at:
        return met.rates
    # Who began anew counts from 0: less than before is nothing, not less than nothing.
    return {key: max(value - met.counts.get(key, 0.0), 0.0) / (now - met.at) for key, value in counts.items()}


def _added(many: Iterable[Counts]) -> Counts:
    total: Counts = {}
    for counts in many:
        for key, value in counts.items():
            total[key] = total.get(key, 0.0) + value
    return total


def _point(rates: Counts, total: Counts, now: float) -> Point:
    asked = {dict(labels)["status"]: 0.0 for name, labels in rates if name == "recray_requests_total"}
    for (name, labels), value in rates.items():
        if name == "recray_requests_total":
            asked[dict(labels)["status"]] += value
    requests = sum(asked.values())
    wrong = sum(value for status, value in asked.items() if status.startswith("5"))
    return Point(
        at=now,
        requests_per_s=requests,
        errors=wrong / requests if requests else None,
        p50_ms=_quantile(rates, "total", 0.5),
        p95_ms=_quantile(rates, "total", 0.95),
        in_flight=sum(value for (name, _), value in total.items() if name == "recray_requests_in_flight"),
    )


def _quantile(counts: Mapping[tuple[str, Labels], float], stage: str, share: float) -> float | None:
    """Milliseconds below which ``share`` of a stage's times lie, by its buckets; None: there are none."""
    upto = sorted(
        (float(dict(labels)["le"]), value)
        for (name, labels), value in counts.items()
        if name == "recray_stage_seconds_bucket" and dict(labels)["stage"] == stage
    )
    if not upto or not upto[-1][1]:
        return None
    wanted, low, below = share * upto[-1][1], 0.0, 0.0
    for edge, count in upto:
        if count >= wanted:
            high = low if edge == float("inf") else edge
            inside = (wanted - below) / (count - below) if count > below else 1.0
            return 1e3 * (low + inside * (high - low))
        low, below = edge, count
    return None
