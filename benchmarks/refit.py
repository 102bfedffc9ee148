"""What it is worth that the served model has learnt everything: recall on days that no training saw.

python -m benchmarks.refit [--dataset synthetic] [--split global-time] [--models two_tower] [--days 7]

The last days are cut off. On the rest every model is trained and selected by the split, and then trained
again on all of that rest, as publishing does. Both are asked for what users did on the days that were cut
off and had not done before, with everything before as their history. Users are those with an event before.
The last line is one JSON object.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from recray.config import override
from recray.data.events.dataset import Dataset
from recray.data.events.split_data import SplitData
from recray.data.events.splits import Split, split_by_name
from recray.eval.compare import Row, aggregate, compare
from recray.eval.evaluate import Evaluation
from recray.pipelines.train import fit, fit_again
from recray.recipes import RECIPES, run_for
from recray.recipes.retriever import as_retriever, evaluate_retriever
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig
from recray.train.run import AnyRecipe, Run

RESULT = Path(__file__).parent / "results" / "refit.json"
DAY_S = 86_400
METRICS = ("recall@10", "ndcg@10")
LOCAL = LaunchConfig(where="local")


def last_days(data: Dataset, days: float) -> Split:
    """Everything before the last days for training, those days to be asked for."""
    is_late_N = data.timestamps_N >= data.timestamps_N[-1] - int(days * DAY_S)
    none_N = np.zeros_like(is_late_N)
    return Split(name=f"last {days:g} days", train_N=~is_late_N, validation_N=none_N, test_N=is_late_N)


def earlier(data: Dataset, late: Split) -> Dataset:
    """The data as it was before those days; users and items keep their numbers."""
    kept_N = late.train_N
    return replace(
        data,
        user_ids_N=data.user_ids_N[kept_N],
        item_ids_N=data.item_ids_N[kept_N],
        ratings_N=data.ratings_N[kept_N],
        timestamps_N=data.timestamps_N[kept_N],
        event_types_N=None if data.event_types_N is None else data.event_types_N[kept_N],
    )


def both(recipe: AnyRecipe, run: Run, days: float) -> dict[str, Evaluation]:
    """On the last days: the model as it was selected on the split, and trained again on everything before."""
    opened: SplitData = recipe.open(run)
    late = last_days(opened.dataset, days)
    before = earlier(opened.dataset, late)
    data = replace(opened, dataset=before, split=split_by_name(before, opened.split.name.partition("(")[0]))
    fitted = fit(recipe, run, LOCAL, data)
    models = {"selected": fitted.model, "refitted": fit_again(recipe, run, LOCAL, fitted, "all").model}
    asked = SplitData(opened.dataset, late)
    return {name: evaluate_retriever(as_retriever(model), asked) for name, model in models.items()}


def measured(name: str, args: argparse.Namespace) -> dict[str, object]:
    """Means with intervals of both, and the paired difference."""
    recipe, rows = RECIPES[name], []
    run = override(run_for(recipe, args.dataset), {"data.split": args.split})
    for seed in range(args.seeds if recipe.loop(run) else 1):
        found = both(recipe, override(run, {"seed": seed}), args.days)
        rows += [Row(kind, seed, evaluation) for kind, evaluation in found.items()]
    results = {result.model: result for result in aggregate(rows)}
    found_of = {kind: averaged([row.evaluation for row in rows if row.model == kind]) for kind in results}
    return {
        "users": len(rows[0].evaluation.user_ids_U),
        **{kind: {m: results[kind].metrics[m]._asdict() for m in METRICS} for kind in results},
        "gain": {m: compare(found_of["refitted"], found_of["selected"], m)._asdict() for m in METRICS},
    }


def averaged(runs: list[Evaluation]) -> Evaluation:
    """Of the seeds, user by user."""
    per_query = {name: np.mean([run.per_query[name] for run in runs], axis=0) for name in METRICS}
    return replace(runs[0], per_query=per_query)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--split", default="global-time")
    parser.add_argument("--models", nargs="+", default=["popularity", "item_knn", "two_tower", "sasrec"])
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    setup_logging()
    models = {name: measured(name, args) for name in args.models}
    result = {"dataset": args.dataset.rpartition("/")[2], "split": args.split, "days": args.days, **models}
    for name, found in models.items():
        print(name, json.dumps(found))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
