"""A look at drift that found something, and one that found nothing."""

from recray.monitor.drift_report import Alarm, Checked, DriftReport, FeatureDrift, Histogram, Sample
from tests.serve.world import APPLICATION, NOW

SENTENCE = "price lies higher than it did: 24.1, was 12.3"
_BARS = Histogram(
    edges=(5.0, 10.0, 20.0),
    labels=("below 5", "5 to 10", "10 to 20", "from 20", "missing"),
    reference=(0.3, 0.3, 0.2, 0.15, 0.05),
    window=(0.1, 0.2, 0.3, 0.35, 0.05),
)


def look(*, moved: bool) -> DriftReport:
    test = Checked(test="psi", statistic=0.5 if moved else 0.01, threshold=0.1, p_value=0.0005, alarm=moved)
    price = FeatureDrift(
        name="price",
        group="features",
        kind="numeric",
        tests=(test,),
        alarm=moved,
        raised=moved,
        psi=test.statistic,
        reference=12.3,
        window=24.1,
        histogram=_BARS,
        sentence=SENTENCE if moved else "",
    )
    alarms = (Alarm(name="price", since=float(NOW), sentence=SENTENCE),) if moved else ()
    return DriftReport(
        application=APPLICATION,
        version=f"{APPLICATION}@1",
        at=float(NOW),
        window=Sample(since=NOW - 86_400.0, until=float(NOW), rows=40_000, answers=4_000, users=900),
        against="first week",
        features=(price, FeatureDrift(name="tail", group="features", kind="numeric", note="never shown")),
        raised=alarms,
        standing=alarms,
    )
