"""An experiment as one HTML page: who is better by how much, how sure that is, and what it cost."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from recray.eval.over_seeds import OverSeeds, Runs, difference, holm, of_model
from recray.pages.check import Check
from recray.pages.page import figures, page, table
from recray.pages.palette import BLUE, GREY, ORANGE, SERIES
from recray.pages.plots import Draw
from recray.pipelines.experiment import Experiment, Failed, Result
from recray.track.history import by_epoch

SURE = 0.05
MARKERS = "os^D"  # where there are more models than colours
BESIDE = ("hit", "mrr", "coverage", "novelty", "popularity_bias")


class Compared(NamedTuple):
    """Two models on one data set."""

    first: str  # the better one
    second: str
    found: OverSeeds
    adjusted: float  # p-value, for as many pairs as the data set has


def render(experiment: Experiment, results: Sequence[Result], failed: Sequence[Failed]) -> str:
    done = [each for each in experiment.datasets if any(one.dataset == each for one in results)]
    sections = []
    for dataset in done:
        of_dataset = by_title([one for one in results if one.dataset == dataset])
        pairs = compared(of_dataset, experiment.metric)
        sections += [
            _models(dataset, of_dataset, experiment),
            _pairs(dataset, pairs, experiment.metric),
            figures(_plots(of_dataset, pairs, experiment.metric)),
        ]
    tiles = {
        "models": str(len(experiment.models)),
        "data sets": str(len(done)),
        "seeds": str(experiment.seeds),
        "runs": f"{len(results)}",
        "hours of training": f"{sum(one.seconds for one in results) / 3600:.2f}",
    }
    sections.append(_settings(results))
    return page(
        experiment.name,
        experiment.about,
        tiles,
        _checks(experiment, results, failed),
        "\n".join(sections),
        about="experiment",
    )


def by_title(results: Sequence[Result]) -> dict[str, list[Result]]:
    """In the order of the file."""
    found: dict[str, list[Result]] = {}
    for one in results:
        found.setdefault(one.title, []).append(one)
    return found


def runs_of(results: Sequence[Result]) -> Runs:
    return Runs([one.evaluation for one in results], results[0].draws)


def compared(models: Mapping[str, Sequence[Result]], metric: str) -> list[Compared]:
    """All pairs, the surest first."""
    runs = {title: runs_of(results) for title, results in models.items()}
    pairs = []
    for a, b in combinations(runs, 2):
        found = difference(runs[a], runs[b], metric)
        pairs.append((a, b, found) if found.mean >= 0 else (b, a, difference(runs[b], runs[a], metric)))
    adjusted = holm([found.p_value for _, _, found in pairs])
    made = [Compared(*pair, p_value) for pair, p_value in zip(pairs, adjusted, strict=True)]
    return sorted(made, key=lambda one: (math.isnan(one.adjusted), one.adjusted, -one.found.mean))


def alike(order: Sequence[str], pairs: Sequence[Compared]) -> list[tuple[int, int]]:
    """Runs of neighbours, first and last place, of whom none is told from another; longest ones only."""
    apart = {frozenset((one.first, one.second)) for one in pairs if one.adjusted < SURE}
    found: list[tuple[int, int]] = []
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and not any(
            frozenset((order[last + 1], order[place])) in apart for place in range(first, last + 1)
        ):
            last += 1
        if last > first and not any(a <= first and last <= b for a, b in found):
            found.append((first, last))
    return found


def _models(dataset: str, models: Mapping[str, Sequence[Result]], experiment: Experiment) -> str:
    k = experiment.metric.rpartition("@")[2]
    beside = [f"{name}@{k}" for name in BESIDE]
    rows = []
    for title, results in _best_first(models, experiment.metric):
        found = of_model(runs_of(results), experiment.metric)
        means = [one.evaluation.means() for one in results]
        said = [f"{np.mean([each[name] for each in means]):.4f}" for name in beside]
        seconds, peak = (
            float(np.mean([getattr(one, what) for one in results])) for what in ("seconds", "peak_gib")
        )
        interval = f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"
        rows.append([title, str(len(results)), interval, *said, f"{seconds:,.0f}", f"{peak:.2f}"])
    head = ["model", "seeds", experiment.metric, *beside, "seconds a run", "GiB at the peak"]
    return table(f"{dataset}: {_users(models)} users, 95 % intervals over users and seeds", head, rows)


def _pairs(dataset: str, pairs: Sequence[Compared], metric: str) -> str:
    rows = [
        [
            f"{one.first} over {one.second}",
            f"{one.found.mean:+.4f} [{one.found.low:+.4f}, {one.found.high:+.4f}]",
            f"{one.found.p_value:.2g}",
            f"{one.adjusted:.2g}",
            "?" if math.isnan(one.adjusted) else "yes" if one.adjusted < SURE else "no",
        ]
        for one in pairs
    ]
    return table(f"{dataset}: pairs", ["pair", metric, "p", "p adjusted (Holm)", "told apart"], rows)


def _plots(models: Mapping[str, Sequence[Result]], pairs: Sequence[Compared], metric: str) -> dict[str, Draw]:
    ordered = _best_first(models, metric)
    plots: dict[str, Draw] = {
        f"{metric}: dots are seeds; a bar joins models that are not told apart": lambda axes: _critical(
            axes, ordered, pairs, metric
        ),
        "what it cost: seconds of a run": lambda axes: _cost(axes, ordered, metric),
    }
    if any(len(one.reports) > 1 for _, results in ordered for one in results):
        plots[f"validation {metric} by epoch"] = lambda axes: _curves(axes, ordered, metric)
    return plots


def _critical(
    axes: Axes, ordered: Sequence[tuple[str, Sequence[Result]]], pairs: Sequence[Compared], metric: str
) -> None:
    names = [title for title, _ in ordered]
    for place, (_, results) in enumerate(ordered):
        found = of_model(runs_of(results), metric)
        axes.plot([found.low, found.high], [place, place], color=BLUE, linewidth=2)
        axes.plot(found.mean, place, "o", color=BLUE)
        dots = [one.evaluation.means()[metric] for one in results]
        axes.plot(dots, [place + 0.18] * len(dots), ".", color=GREY, markersize=4)
    right = axes.get_xlim()[1]
    for n, (first, last) in enumerate(alike(names, pairs)):
        x = right + (0.02 + 0.03 * n) * (right - axes.get_xlim()[0])
        axes.plot([x, x], [first - 0.15, last + 0.15], color=ORANGE, linewidth=3, clip_on=False)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(metric)


def _cost(axes: Axes, ordered: Sequence[tuple[str, Sequence[Result]]], metric: str) -> None:
    for n, (title, results) in enumerate(ordered):
        seconds = [one.seconds for one in results]
        values = [one.evaluation.means()[metric] for one in results]
        marker = MARKERS[n // len(SERIES) % len(MARKERS)]
        axes.plot(seconds, values, marker, color=SERIES[n % len(SERIES)], label=title, markersize=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")  # else powers, written as TeX
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds")
    axes.set_ylabel(metric)
    axes.legend(fontsize=7)


def _curves(axes: Axes, ordered: Sequence[tuple[str, Sequence[Result]]], metric: str) -> None:
    for n, (title, results) in enumerate(ordered):
        for one in results:
            epochs = by_epoch(one.reports, metric)
            label = title if one is results[0] and epochs else None
            axes.plot(
                [report["epoch"] for report in epochs],
                [report[metric] for report in epochs],
                color=SERIES[n % len(SERIES)],
                linewidth=1,
                label=label,
            )
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.legend(fontsize=7)


def _settings(results: Sequence[Result]) -> str:
    """Of each model; what is the same for all of them is said once."""
    shown: dict[str, dict[str, object]] = {}
    for one in results:
        own = {key: value for key, value in one.settings.items() if key not in ("seed", "data.dataset")}
        shown.setdefault(f"{one.title} on {one.dataset}", own)
    first, *others = shown.values()
    same = {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}
    rows = [["all", _words(same)]] if others else []
    for title, own in shown.items():
        rows.append([title, _words({k: v for k, v in own.items() if not others or k not in same})])
    return table("Settings", ["run", "settings"], rows)


def _words(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(settings.items()))


def _checks(experiment: Experiment, results: Sequence[Result], failed: Sequence[Failed]) -> list[Check]:
    due = max(len(results) + len(failed), 1)
    done = Counter((one.title, one.dataset) for one in results if one.draws)
    seeds = min(done.values(), default=3)
    return [
        Check(
            name="runs",
            level="warning" if failed else "ok",
            text="; ".join(map(str, failed)) or f"all {due} runs are done",
        ),
        Check(
            name="seeds",
            level="ok" if seeds >= 3 else "warning",
            text="what differs between seeds is part of every interval and test"
            if seeds >= 3
            else f"a model has {seeds} of {experiment.seeds}: fewer than three say little of what differs",
        ),
        Check(
            name="tests",
            level="note",
            text="each p-value is of a t-test whose error adds users and the seeds of both models, "
            "then adjusted for all pairs of a data set (Holm)",
        ),
    ]


def _best_first(models: Mapping[str, Sequence[Result]], metric: str) -> list[tuple[str, Sequence[Result]]]:
    def value(item: tuple[str, Sequence[Result]]) -> float:
        return -float(np.mean([one.evaluation.means()[metric] for one in item[1]]))

    return sorted(models.items(), key=value)


def _users(models: Mapping[str, Sequence[Result]]) -> str:
    first = next(iter(models.values()))[0]
    return f"{len(first.evaluation.user_ids_U):,}"
