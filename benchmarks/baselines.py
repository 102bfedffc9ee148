"""What models without gradients reach on MovieLens: ``jobs/experiments/baselines.json`` as one table.

``python -m benchmarks.baselines`` does the runs that are not done yet, one after the other, and writes
``results/baselines.json`` and the table of ``docs/baselines.md``: NDCG@10 with its 95 % interval over users
(and seeds, of what draws), the difference to EASE with users paired and its p-value (Holm, over all pairs
of the data set), seconds with measuring, and the peak of memory. The last line is one JSON object.
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
PAGE = REPO / "docs" / "baselines.md"
TABLE = "<!-- of benchmarks/results/baselines.json -->\n"
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


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The same as Markdown."""
    lines = ["| data | model | seeds | NDCG@10 | over EASE (p) | seconds | GiB |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        over = f"{row['over_ease']:+.4f} ({row['p_value']:.4f})" if "over_ease" in row else ""
        reached = f"{row['ndcg@10']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"
        cost = f"{row['seconds']:.0f} | {row['peak_gib']:.2f}"
        lines.append(f"| {row['dataset']} | {row['model']} | {row['seeds']} | {reached} | {over} | {cost} |")
    return "\n".join(lines) + "\n"


def with_table(page: str, rows: Sequence[dict[str, Any]]) -> str:
    """The page with the table in the place of the one it had, which ends it."""
    return page.partition(TABLE)[0] + TABLE + table(rows)


def main() -> None:
    experiment = read_experiment(EXPERIMENT)
    results, failed = run_experiment(experiment, LaunchConfig(where="local"), print)
    rows = rows_of(experiment, results)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    PAGE.write_text(with_table(PAGE.read_text(), rows))
    print(json.dumps({"rows": len(rows), "failed": [str(one) for one in failed]}))


if __name__ == "__main__":
    main()
