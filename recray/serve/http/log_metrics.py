"""What the log of a node says of itself, for Prometheus: alike in all replicas there, but for ``lost``."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recray.serve.http.answers import TakenDown


class LogMetrics(Collector):
    """Nothing where there is no log."""

    def __init__(self) -> None:
        self.now: TakenDown | None = None

    def collect(self) -> Iterator[Metric]:
        if (now := self.now) is None:
            return
        counted = {
            "recray_events_recorded": ("Events that were new.", now["events"]),
            "recray_events_repeated": ("Events whose id was known.", now["repeated"]),
            "recray_events_commits": ("Commits of the log.", now["commits"]),
            "recray_events_commit_seconds": ("Time of all commits.", now["commit_s"]),
            "recray_exposures_recorded": ("Answers that were taken down.", now["answers"]),
            "recray_exposures_lost": ("Answers for which there was no room; of this replica.", now["lost"]),
        }
        for name, (what, value) in counted.items():
            yield CounterMetricFamily(name, what, value=value)
        yield GaugeMetricFamily(
            "recray_events_waiting", "Events and answers that wait for the disk.", value=now["waiting"]
        )
