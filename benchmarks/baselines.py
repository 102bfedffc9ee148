"""What models reach beside baselines of full strength: experiments of ``jobs/experiments`` as tables.

``python -m benchmarks.baselines [baselines] [ml-100k] [waits]`` does the runs that are missing, one after the
other, and writes ``results/``: NDCG@10 with its 95 % interval over users (and seeds, of what draws), the
difference to a baseline with users paired and its p-value (Holm, over all pairs of the data set), seconds
with measuring, and the peak of memory; ``benchmarks.tables`` makes tables of it. The last line is one JSON
object.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recray.eval.over_seeds import of_model
from recray.pipelines.experiment import Experiment, Result, read_experiment, run_experiment
from recray.pipelines.experiment_page import by_title, compared, runs_of
from recray.train.context import LaunchConfig

REPO = Path(__file__).parent.parent


class Table(NamedTuple):
    """An experiment, where its rows are kept, and the models that all others are compared with."""

    experiment: Path
    result: Path
    bases: tuple[str, ...]


def _table(experiment: str, result: str, *bases: str) -> Table:
    kept = Path(__file__).parent / "results" / f"{result}.json"
    return Table(REPO / "jobs" / "experiments" / f"{experiment}.json", kept, bases)


TABLES = {
    "baselines": _table("baselines", "baselines", "ease"),
    "ml-100k": _table("ml-100k", "ml-100k-retrievers", "ease", "ials"),
    "waits": _table("waits", "waits", "mamba", "ss4rec, no waits"),
}


def rows_of(experiment: Experiment, results: Sequence[Result], bases: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each data set and model, JSON-ready; a model of one seed has an interval over users alone."""
    rows = []
    for dataset in experiment.datasets:
        models = by_title([one for one in results if one.dataset == dataset])
        models = {t: [one._replace(draws=len(runs) > 1) for one in runs] for t, runs in models.items()}
        pairs = {frozenset(pair[:2]): pair for pair in compared(models, experiment.metric)}
        for title, runs in models.items():
            found = of_model(runs_of(runs), experiment.metric)
            row: dict[str, Any] = {"dataset": dataset, "model": title, "seeds": len(runs)}
            row |= {"ndcg@10": found.mean, "low": found.low, "high": found.high}
            for base in bases:
                if pair := pairs.get(frozenset((title, base))):
                    sign = 1 if pair.first == title else -1
                    ends = sorted((sign * pair.found.low, sign * pair.found.high))
                    row |= {f"over_{base}": sign * pair.found.mean, f"p_{base}": pair.adjusted}
                    row |= {f"low_{base}": ends[0], f"high_{base}": ends[1]}
            row["seconds"] = sum(one.seconds for one in runs) / len(runs)
            row["peak_gib"] = max(one.peak_gib for one in runs)
            rows.append(row)
    return rows


def main(names: Sequence[str]) -> None:
    said: dict[str, Any] = {}
    for name in names or TABLES:
        one = TABLES[name]
        experiment = read_experiment(one.experiment)
        results, failed = run_experiment(experiment, LaunchConfig(where="local"), print)
        rows = rows_of(experiment, results, one.bases)
        one.result.write_text(json.dumps(rows, indent=1) + "\n")
        said[name] = {"rows": len(rows), "failed": [str(each) for each in failed]}
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
