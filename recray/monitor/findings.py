"""What was found, feature by feature, for people: histograms with names, means, a sentence of what moved."""

import itertools

import numpy as np

from recray.arrays import Float64s
from recray.monitor.drift import Comparison, Found, Shift
from recray.monitor.drift_report import Checked, FeatureDrift, Histogram, Kind
from recray.monitor.shown_rows import CONTEXT, OF_IDS, POPULARITY
from recray.monitor.sketch import MISSING, Sketch, Watched

IN_WORDS = {
    "user": "answers to users of whom nothing was learnt",
    "item": "shown items of which nothing was learnt",
    "source": "which stage finds the items",
    "answered": "how requests are answered",
    POPULARITY: "popularity of the shown items",
    "item vectors": "where the shown items lie in the vector space",
    "effective items": "how many items the lists share between them",
}
EXACT = 17  # digits that tell any two numbers apart


def findings(compared: Comparison, reference: Sketch, window: Sketch) -> tuple[FeatureDrift, ...]:
    """Alarms first, then what is nearest to its threshold."""
    by_name: dict[str, list[Found]] = {}
    for one in compared.found:
        by_name.setdefault(one.name, []).append(one)
    found = [
        _of_column(shift, by_name.pop(shift.column.name), reference, window) for shift in compared.shifts
    ]
    there = {shift.column.name for shift in compared.shifts}
    found += [_gone(column, window) for column in reference.watched if column.name not in there]
    found += [_of_lists(name, tests, compared) for name, tests in by_name.items()]
    return in_order(found)


def in_order(features: list[FeatureDrift]) -> tuple[FeatureDrift, ...]:
    """Alarms first, then what is nearest to its threshold."""

    def nearness(one: FeatureDrift) -> float:
        return max((test.statistic / max(test.threshold, 1e-12) for test in one.tests), default=-1.0)

    return tuple(sorted(features, key=lambda one: (not one.alarm, -nearness(one), one.name)))


def _tested(tests: list[Found]) -> tuple[Checked, ...]:
    found = [
        Checked(
            test=one.test,
            statistic=one.statistic,
            threshold=one.threshold,
            p_value=one.p_value,
            alarm=one.statistic > one.threshold,
        )
        for one in tests
    ]
    return tuple(sorted(found, key=lambda one: -one.statistic / max(one.threshold, 1e-12)))


def _of_column(shift: Shift, tests: list[Found], reference: Sketch, window: Sketch) -> FeatureDrift:
    column, found = shift.column, _tested(tests)
    means = reference.mean(column.name), window.mean(column.name)
    if column.name in OF_IDS:  # shares of what is not known
        unknown = column.labels.index("unknown")
        means = float(shift.reference_J[unknown]), float(shift.window_J[unknown])
    return FeatureDrift(
        name=column.name,
        group=column.group,
        kind=_kind(column),
        tests=found,
        alarm=any(test.alarm for test in found),
        psi=shift.psi,
        reference=means[0],
        window=means[1],
        missing_reference=float(shift.reference_J[-1]),
        missing_window=max(float(shift.window_J[-1]), 0.0),
        histogram=_histogram(shift),
        sentence=_sentence(shift, means),
    )


def _kind(column: Watched) -> Kind:
    if column.name in OF_IDS:
        return "share"
    return "categorical" if column.edges is None else "numeric"


def _gone(column: Watched, window: Sketch) -> FeatureDrift:
    """What the reference watches and one of both has nothing of."""
    of_window = int(window.column(column.name)[1].sum())
    note = "the reference has none of it" if of_window else "nothing that was shown has it"
    return FeatureDrift(name=column.name, group=column.group, kind=_kind(column), note=note)


def _of_lists(name: str, tests: list[Found], compared: Comparison) -> FeatureDrift:
    found = _tested(tests)
    alarm = any(test.alarm for test in found)
    if name == "item vectors":
        far = f"{found[0].statistic:.3f} apart, {found[0].threshold:.3f} would be no news"
        said = f"{IN_WORDS[name]}: the means of both are {far}"
        return FeatureDrift(name=name, group="items", kind="vector", tests=found, alarm=alarm, sentence=said)
    before, now = compared.effective_items
    return FeatureDrift(
        name=name,
        group="lists",
        kind="figure",
        tests=found,
        alarm=alarm,
        reference=before,
        window=now,
        sentence=f"{IN_WORDS[name]}: as if {now:,.0f} in place of {before:,.0f} were shown equally often",
    )


def _histogram(shift: Shift) -> Histogram:
    """Without the bars that both have nothing in."""
    labels, edges = bar_labels(shift.column), shift.column.edges
    window_J = np.maximum(shift.window_J, 0.0)
    return Histogram(
        edges=edges,
        labels=labels,
        reference=tuple(_shares(shift.reference_J)),
        window=tuple(_shares(window_J)),
    )


def _shares(share_J: Float64s) -> list[float]:
    return [round(float(share), 6) for share in share_J]


def bar_labels(column: Watched) -> tuple[str, ...]:
    """A name for each bin, with as many digits as it takes to tell them apart."""
    if column.edges is None:
        return (*column.labels, "no value" if MISSING in column.labels else MISSING)
    named = (_by_digits(column.edges, digits) for digits in range(4, EXACT))
    apart = (labels for labels in named if len(set(labels)) == len(labels))
    return next(apart, _by_digits(column.edges, EXACT))


def _by_digits(edges: tuple[float, ...], digits: int) -> tuple[str, ...]:
    told = [f"{edge:.{digits}g}" for edge in edges]
    between = [
        one if np.nextafter(low, np.inf) == high else f"{one} to {other}"
        for (low, one), (high, other) in itertools.pairwise(zip(edges, told, strict=True))
    ]
    return (f"below {told[0]}", *between, f"{told[-1]} or more", MISSING)


def _sentence(shift: Shift, means: tuple[float | None, float | None]) -> str:
    """The mean, where it moved by more than a tenth of a percent; the share of missing values; else the bar
    that moved most."""
    name = shift.column.name
    subject = IN_WORDS.get(name, name.removeprefix(CONTEXT) + (" of the context" if CONTEXT in name else ""))
    if name in OF_IDS:
        return f"{subject}: {means[1]:.1%} in place of {means[0]:.1%}"
    missing = float(shift.reference_J[-1]), float(shift.window_J[-1])
    said = []
    if shift.column.edges is not None and None not in means:
        said.append(f"mean {means[1]:.4g} in place of {means[0]:.4g}")
    if abs(missing[1] - missing[0]) >= 0.01:
        said.append(f"{missing[1]:.0%} have no value in place of {missing[0]:.0%}")
    most = int(np.abs((shift.window_J - shift.reference_J)[:-1]).argmax())
    if shift.column.edges is None or shift.psi > 0.05:
        label = bar_labels(shift.column)[most]
        said.append(f"{shift.window_J[most]:.1%} are {label} in place of {shift.reference_J[most]:.1%}")
    return f"{subject}: {', '.join(said) or 'as before'}"
