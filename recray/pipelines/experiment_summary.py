"""An experiment as data: what each model reached, which of them are told apart, and what it took."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from recray.eval.over_seeds import of_model
from recray.pipelines.experiment import Experiment, Failed, Result
from recray.pipelines.experiment_page import by_title, compared, runs_of


def summary(experiment: Experiment, results: Sequence[Result], failed: Sequence[Failed]) -> dict[str, Any]:
    """JSON-ready: the rows of the page, each with its data set.

    ``models``: mean of the experiment's metric and its 95 % interval over users and seeds, mean seconds of a
    run, the highest peak of memory. ``pairs``: the paired difference, its interval, and the p-value adjusted
    for all pairs of the data set (Holm); null where nothing differs from user to user.
    """
    models, pairs = [], []
    for dataset in experiment.datasets:
        of_dataset = by_title([one for one in results if one.dataset == dataset])
        for title, runs in of_dataset.items():
            found = of_model(runs_of(runs), experiment.metric)
            models.append(
                {
                    "dataset": dataset,
                    "model": title,
                    "seeds": len(runs),
                    "mean": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "seconds": round(fmean(one.seconds for one in runs), 2),
                    "peak_gib": max(one.peak_gib for one in runs),
                }
            )
        for pair in compared(of_dataset, experiment.metric):
            told = {"dataset": dataset, "first": pair.first, "second": pair.second}
            measured = {"mean": pair.found.mean, "low": pair.found.low, "high": pair.found.high}
            pairs.append({**told, **measured, "p_value": _number(pair.adjusted)})
    said = {"name": experiment.name, "about": experiment.about, "metric": experiment.metric}
    return {**said, "models": models, "pairs": pairs, "failed": [str(one) for one in failed]}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
