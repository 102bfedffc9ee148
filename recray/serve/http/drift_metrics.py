"""The last look at drift, for Prometheus: alike in all replicas, as all read one report."""

import json
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recray.monitor.drift_report import DriftReport


class DriftMetrics(Collector):
    """Nothing where nobody has looked."""

    def __init__(self) -> None:
        self._report: DriftReport | None = None

    def note(self, report: bytes | None) -> None:
        """
        Args:
            report: JSON; one that is damaged is none, ``recray drift`` writes the next.
        """
        try:
            self._report = None if report is None else DriftReport.from_json(json.loads(report))
        except ValueError:
            self._report = None

    def collect(self) -> Iterator[Metric]:
        if (report := self._report) is None:
            return
        of_all = {
            "recray_drift_looked_timestamp_seconds": ("When was looked last.", report.at),
            "recray_drift_alarms": ("Alarms that stand.", len(report.standing)),
            "recray_drift_answers": ("Answers that were looked at.", report.window.answers),
        }
        for name, (what, value) in of_all.items():
            gauge = GaugeMetricFamily(name, what, labels=["application"])
            gauge.add_metric([report.application], value)
            yield gauge
        stands = GaugeMetricFamily(
            "recray_drift_alarm", "1 for each alarm that stands.", labels=["application", "feature"]
        )
        for alarm in report.standing:
            stands.add_metric([report.application, alarm.name], 1)
        yield stands
        moved = GaugeMetricFamily(
            "recray_drift_of_threshold",
            "How far each moved, of what raises an alarm.",
            labels=["application", "feature", "test"],
        )
        for feature in report.features:
            for test in feature.tests[:1]:  # the worst
                far = test.statistic / test.threshold if test.threshold else 0.0
                moved.add_metric([report.application, feature.name, test.test], far)
        yield moved
