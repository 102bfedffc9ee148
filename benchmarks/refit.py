"""What it is worth that the served model has learnt everything: recall on days that no training saw.

python -m benchmarks.refit [--dataset synthetic] [--split global-time] [--models two_tower] [--days 7]

The last days are cut off. On the rest every model is trained and selected by the split, and then learns all
of that rest, as publishing does: again from the start, and, where --continued names epochs and rates, on from
the weights that were selected. All are asked for what users did on the days that were cut off and had not
done before, with everything before as their history. Users are those with an event before. ``gain`` is
against the model as it was selected, ``less`` against the one that started again, ``cpu_share`` the processor
time that going on takes, as a share of starting again's. The last line is one JSON object.
"""

import argparse
import functools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recray.config import override
from recray.data.events.dataset import Dataset
from recray.data.events.split_data import SplitData
from recray.data.events.splits import Split, split_by_name
from recray.eval.compare import Row, aggregate, compare
from recray.eval.evaluate import Evaluation
from recray.pipelines.train import Fitted, fit, fit_again
from recray.recipes import RECIPES, run_for
from recray.recipes.retriever import as_retriever, evaluate_retriever
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig
from recray.train.refit import Continued
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


class Served(NamedTuple):
    """A model that could be served, on the days that no training saw, and what its last training took."""

    evaluation: Evaluation
    cpu_s: float


def served(recipe: AnyRecipe, run: Run, days: float, continued: Sequence[Continued]) -> dict[str, Served]:
    """On the last days: the model as it was selected on the split, and every way to learn all before them."""
    opened: SplitData = recipe.open(run)
    late = last_days(opened.dataset, days)
    before, asked = earlier(opened.dataset, late), SplitData(opened.dataset, late)
    data = replace(opened, dataset=before, split=split_by_name(before, opened.split.name.partition("(")[0]))

    def timed(train: Callable[[], Fitted[Any, Any]]) -> tuple[Fitted[Any, Any], Served]:
        began = time.process_time()
        fitted, cpu_s = train(), time.process_time() - began
        return fitted, Served(evaluate_retriever(as_retriever(fitted.model), asked), cpu_s)

    fitted, selected = timed(lambda: fit(recipe, run, LOCAL, data))
    found = {"selected": selected}
    for way in (Continued(), *(continued if recipe.loop(run) else ())):
        name = f"{way.epochs} at {way.rate:g}" if way.epochs else "refitted"
        changed = override(run, {"continued": way}) if recipe.loop(run) else run
        beside = fitted._replace(done=fitted.done._replace(name=f"{fitted.done.name}-{len(found)}"))
        found[name] = timed(functools.partial(fit_again, recipe, changed, LOCAL, beside, "all"))[1]
    return found


def measured(name: str, args: argparse.Namespace) -> dict[str, object]:
    """Means with intervals of all, the paired differences, and what going on costs."""
    recipe, rows, cpu_s = RECIPES[name], [], defaultdict[str, list[float]](list)
    run = override(run_for(recipe, args.dataset), {"data.split": args.split})
    for seed in range(args.seeds if recipe.loop(run) else 1):
        for kind, each in served(recipe, override(run, {"seed": seed}), args.days, args.continued).items():
            rows.append(Row(kind, seed, each.evaluation))
            cpu_s[kind].append(each.cpu_s)
    results = {result.model: result for result in aggregate(rows)}
    found_of = {kind: averaged([row.evaluation for row in rows if row.model == kind]) for kind in results}

    def differences(kind: str, other: str) -> dict[str, object]:
        return {m: compare(found_of[kind], found_of[other], m)._asdict() for m in METRICS}

    further = [kind for kind in results if kind not in ("selected", "refitted")]
    return {
        "users": len(rows[0].evaluation.user_ids_U),
        **{kind: {m: results[kind].metrics[m]._asdict() for m in METRICS} for kind in results},
        "gain": differences("refitted", "selected"),
        "continued": {
            kind: {
                "gain": differences(kind, "selected"),
                "less": differences(kind, "refitted"),
                "cpu_share": sum(cpu_s[kind]) / sum(cpu_s["refitted"]),
            }
            for kind in further
        },
    }


def way(text: str) -> Continued:
    """``2:0.1`` is two epochs at a tenth of the learning rate."""
    epochs, _, rate = text.partition(":")
    return Continued(epochs=int(epochs), rate=float(rate))


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
    parser.add_argument(
        "--continued", nargs="*", type=way, default=[], metavar="EPOCHS:RATE", help="such as 2:0.1"
    )
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
