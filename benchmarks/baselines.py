"""What models without gradients reach on MovieLens: ``jobs/experiments/baselines.json`` as one table.

``python -m benchmarks.baselines`` does the runs that are not done yet, one after the other, and writes
``results/baselines.json``: NDCG@10 with its 95 % interval over users (and seeds, of what draws), the
difference to EASE with users paired and its p-value (Holm, over all pairs of the data set), seconds with
measuring, and the peak of memory; ``benchmarks.tables`` makes a table of it. The last line is one JSON
object.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recray.eval.over_seeds import of_model
from recray.pipelines.experiment import Experiment, Result, read_experiment, run_experiment
from recray.pipelines.experiment_page import by_title, compared, runs_of
from recray.train.context import LaunchConfig

REPO = Path(__file__).parent.parent
EXPERIMENT = REPO / "jobs" / "experiments" / "baselines.json"
RESULT = Path(__file__).parent / "results" / "baselines.json"
BEST = "ease"


def rows_of(experiment: Experiment, results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each data set and model, JSON-ready."""
    rows = []
    for dataset in experiment.datasets:
        models = by_title([one for one in results if one.dataset == dataset])
        pairs = {frozenset(pair[:2]): pair for pair in compared(models, experiment.metric)}
        for title, runs in models.items():
            found = of_model(runs_of(runs), experiment.metric)
            row: dict[str, Any] = {"dataset": dataset, "model": title, "seeds": len(runs)}
            row |= {"ndcg@10": found.mean, "low": found.low, "high": found.high}
            if pair := pairs.get(frozenset((title, BEST))):
                sign = 1 if pair.first == title else -1
                row |= {"over_ease": sign * pair.found.mean, "p_value": pair.adjusted}
            row["seconds"] = sum(one.seconds for one in runs) / len(runs)
            row["peak_gib"] = max(one.peak_gib for one in runs)
            rows.append(row)
    return rows


def main() -> None:
    experiment = read_experiment(EXPERIMENT)
    results, failed = run_experiment(experiment, LaunchConfig(where="local"), print)
    rows = rows_of(experiment, results)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps({"rows": len(rows), "failed": [str(one) for one in failed]}))


if __name__ == "__main__":
    main()
