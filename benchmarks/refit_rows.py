"""What it is worth that a served DLRM has learnt the newest rows: clicks that no training saw.

python -m benchmarks.refit_rows [--dataset ml-1m] [--seeds 3] [--continued 1:0.1 1:1]

The test part is kept from everybody. A DLRM is trained on the training part and selected on the validation
part; then it learns both, as publishing does with all parts: again from the start, and on from the weights
that were selected, with the rows of the validation part alone. All are asked for the test part. ``gain`` is
against the model as it was selected, ``less`` against the one that started again, ``cpu_share`` the processor
time that going on takes, as a share of starting again's. The last line is one JSON object.
"""

import argparse
import functools
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.refit import LOCAL, way
from recray.data.rows.table import RowTable
from recray.eval.clicks import ClickEvaluation, difference, summary
from recray.models.dlrm import DLRM
from recray.pipelines.train import Fitted, fit, fit_again
from recray.recipes import run_for
from recray.recipes.dlrm import DLRM_RECIPE, DLRMRun
from recray.recipes.row_metrics import evaluate_rows
from recray.track.console import setup_logging
from recray.train.refit import Continued

RESULT = Path(__file__).parent / "results" / "refit_rows.json"
METRICS = ("auc", "logloss")
DLRMFit = Fitted[RowTable, DLRM]


def without_test(table: RowTable) -> RowTable:
    """The rows as they were before those of the test part."""
    *before, test = table.manifest.parts
    emptied = replace(test, rows=0, units=0, positives=0, shards=())
    return replace(table, manifest=replace(table.manifest, parts=(*before, emptied)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--continued", nargs="*", type=way, default=[way("1:0.1"), way("1:1")], metavar="EPOCHS:RATE"
    )
    args = parser.parse_args()
    setup_logging()
    run = run_for(DLRM_RECIPE, args.dataset)
    table = DLRM_RECIPE.open(run)
    runs, cpu_s = defaultdict[str, list[ClickEvaluation]](list), defaultdict[str, float](float)

    def timed(kind: str, train: Callable[[], DLRMFit]) -> DLRMFit:
        began = time.process_time()
        fitted = train()
        cpu_s[kind] += time.process_time() - began
        found = evaluate_rows(fitted.model, table)
        assert isinstance(found, ClickEvaluation)
        runs[kind].append(found)
        print(kind, found.means(), flush=True)
        return fitted

    for seed in range(args.seeds):
        seeded: DLRMRun = replace(run, seed=seed)
        fitted = timed("selected", functools.partial(fit, DLRM_RECIPE, seeded, LOCAL, without_test(table)))
        for each in (Continued(), *args.continued):
            kind = f"{each.epochs} at {each.rate:g}" if each.epochs else "refitted"
            beside = fitted._replace(
                done=fitted.done._replace(name=f"{fitted.done.name}-{kind.replace(' ', '-')}")
            )
            changed = replace(seeded, continued=each)
            timed(kind, functools.partial(fit_again, DLRM_RECIPE, changed, LOCAL, beside, "all"))

    def against(kind: str, other: str) -> dict[str, Any]:
        return {m: difference(runs[kind], runs[other], m)._asdict() for m in METRICS}

    further = [kind for kind in runs if kind not in ("selected", "refitted")]
    result = {
        "dataset": args.dataset.rpartition("/")[2],
        "seeds": args.seeds,
        "rows": table.num_rows("test"),
        **{kind: {m: summary(found)[m]._asdict() for m in METRICS} for kind, found in runs.items()},
        "gain": against("refitted", "selected"),
        "continued": {
            kind: {
                "gain": against(kind, "selected"),
                "less": against(kind, "refitted"),
                "cpu_share": cpu_s[kind] / cpu_s["refitted"],
            }
            for kind in further
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
