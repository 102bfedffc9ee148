"""How good DLRM and LambdaRank are, beside their peers on the same rows in the same run.

python -m benchmarks.click_quality [--seeds 3] [--only clicks queries lists criteo]

* clicks: ML-1M, ratings of at least 4, global-time split: DLRM, logistic regression and XGBoost, by AUC with
  intervals over users (reconstructed timestamps, see the data's README);
* queries: LightGBM's ranking example: LambdaRank by DLRM and by LightGBM, NDCG@1, 3, 5, 10;
* lists: ML-1M's list of each user, graded by rating: LambdaRank against BCE of the same network, NDCG@10;
* criteo: the sample of Criteo from raw files to a published bundle.

Settings are chosen on validation, all figures are of the test part. The last line is one JSON object.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import torch

from benchmarks.click_peers import Blocks, logistic_regression, xgboost_trees
from recray.config import override
from recray.data.events.prepare import load_or_prepare
from recray.data.events.splits import global_time
from recray.data.row_block import RowBlock
from recray.data.row_source import PARTS
from recray.data.rows.table import RowTable
from recray.eval.bootstrap import Interval
from recray.eval.clicks import ClickEvaluation, difference, summary
from recray.eval.compare import PairedDifference, compare
from recray.eval.evaluate import Evaluation
from recray.eval.sessions import evaluate_sessions
from recray.pipelines.train import fit
from recray.recipes.dlrm import DLRM_RECIPE, LAMBDARANK, DLRMRun, open_rows
from recray.recipes.row_metrics import KS, row_card
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig

RESULT = Path(__file__).parent / "results" / "click_quality.json"
LOCAL = LaunchConfig(where="local")
IGNORED: tuple[tuple[str, ...], ...] = ((), ("user_id",))  # categories that a peer may do without
TABLE_RATES = (0.002, 0.005, 0.01)  # of a DLRM's tables, for both losses of the lists
LIGHTGBM = tuple(
    {"learning_rate": rate, "num_leaves": leaves, "lambdarank_truncation_level": level}
    for rate in (0.05, 0.1)
    for leaves in (15, 31)
    for level in (10, 30)
)


def dlrm_scores(run: DLRMRun, seeds: int) -> list[Any]:
    """The test part scored by the best weights of each seed."""
    found = []
    for seed in range(seeds):
        seeded = replace(run, seed=seed)
        fitted = fit(DLRM_RECIPE, seeded, LOCAL)
        found.append(DLRM_RECIPE.measure(seeded, fitted.data, fitted.model))
        print(f"  seed {seed}: {found[-1].means()}", flush=True)
    return found


# --- clicks ---


def clicks(seeds: int) -> dict[str, Any]:
    run = DLRM_RECIPE.presets["ml-1m"][1]
    table = open_rows(run.data)
    blocks: Blocks = {part: table.read(part) for part in PARTS}
    users_N = _users(table, blocks["test"])
    models: dict[str, list[ClickEvaluation]] = {
        "dlrm": [replace(found, units_N=users_N) for found in dlrm_scores(run, seeds)],
        "logistic_regression": [_of_test(table, blocks, users_N, logistic_regression(blocks, IGNORED))],
        "xgboost": [_of_test(table, blocks, users_N, xgboost_trees(blocks, IGNORED))],
    }
    result: dict[str, Any] = {name: _intervals(summary(runs)) for name, runs in models.items()}
    for peer in ("logistic_regression", "xgboost"):
        result[f"auc_over_{peer}"] = _interval(difference(models["dlrm"], models[peer], "auc"))
    return result


def _users(table: RowTable, block: RowBlock) -> np.ndarray:
    """Who made each row of the test part; the rows know only users that training has seen."""
    data = load_or_prepare("ml-1m")
    rows = np.flatnonzero(global_time(data).test_N)
    assert np.array_equal(data.ratings_N[rows] >= 4, block.labels_N == 1)
    return data.user_ids_N[rows]


def _of_test(table: RowTable, blocks: Blocks, users_N: np.ndarray, logits_N: np.ndarray) -> ClickEvaluation:
    return ClickEvaluation(
        card=row_card(table, "test"),
        logits_N=logits_N.astype(np.float64),
        labels_N=blocks["test"].labels_N.astype(np.float64),
        units_N=users_N,
    )


# --- queries ---


def queries(seeds: int) -> dict[str, Any]:
    run = LAMBDARANK.presets["ltr-lightgbm"][1]
    table = open_rows(run.data)
    blocks: Blocks = {part: table.read(part) for part in PARTS}
    ours = _mean_of(dlrm_scores(run, seeds))
    theirs = _mean_of([_lightgbm(table, blocks, seed) for seed in range(seeds)])
    return {
        "lambdarank": _intervals(ours.summary()),
        "lightgbm": _intervals(theirs.summary()),
        "over_lightgbm": {f"ndcg@{k}": _interval(compare(ours, theirs, f"ndcg@{k}")) for k in KS},
    }


def _lightgbm(table: RowTable, blocks: Blocks, seed: int) -> Evaluation:
    """Its lambdarank with the settings that validation likes best, rows and columns sampled by the seed."""
    best, found = -np.inf, None
    for settings in LIGHTGBM:
        train, validation = (
            lightgbm.Dataset(b.dense_NF, b.labels_N, group=np.diff(_offsets(b)), params={"verbose": -1})
            for b in (blocks["train"], blocks["validation"])
        )
        sampled = {"seed": seed, "bagging_fraction": 0.8, "bagging_freq": 1, "feature_fraction": 0.8}
        fixed = {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [10],
            "num_threads": 1,
            "verbose": -1,
        }
        model = lightgbm.train(
            {**fixed, **sampled, **settings},
            train,
            500,
            valid_sets=[validation],
            callbacks=[lightgbm.early_stopping(50, verbose=False)],
        )
        score = model.best_score["valid_0"]["ndcg@10"]
        if score > best:
            best, found = score, model
    assert found is not None
    test = blocks["test"]
    scores_N = np.asarray(found.predict(test.dense_NF))
    return evaluate_sessions(
        scores_N, test.labels_N.astype(np.float64), _offsets(test), row_card(table, "test"), KS
    )


def _offsets(block: RowBlock) -> np.ndarray:
    assert block.offsets_S is not None
    return block.offsets_S


def _mean_of(runs: Sequence[Evaluation]) -> Evaluation:
    """Per session, averaged over seeds."""
    means = {name: np.mean([run.per_query[name] for run in runs], axis=0) for name in runs[0].per_query}
    return replace(runs[0], per_query=means)


# --- lists ---


def lists(seeds: int) -> dict[str, Any]:
    run = LAMBDARANK.presets["ml-1m"][1]
    by_click = replace(run, model=replace(run.model, loss="bce", positive_grade=3.0))  # ratings of 4 and 5
    listwise, pointwise = (_mean_of(_at_its_best(each, seeds)) for each in (run, by_click))
    return {
        "lambdarank": _intervals(listwise.summary()),
        "bce": _intervals(pointwise.summary()),
        "lambdarank_over_bce_ndcg@10": _interval(compare(listwise, pointwise, "ndcg@10")),
    }


def _at_its_best(run: DLRMRun, seeds: int) -> list[Evaluation]:
    """The test part by each seed, with the rate of the tables whose mean validation over seeds is best."""
    found: dict[float, list[Evaluation]] = {}
    for rate in TABLE_RATES:
        validated, tested = [], []
        for seed in range(seeds):
            seeded = override(run, {"model.embedding.lr": rate, "seed": seed})
            fitted = fit(LAMBDARANK, seeded, LOCAL)
            validated.append(fitted.done.metrics["best_ndcg@10"])
            tested.append(LAMBDARANK.measure(seeded, fitted.data, fitted.model))
        print(f"  {run.model.loss}, tables at {rate}: validation {validated}", flush=True)
        found[float(np.mean(validated))] = [each for each in tested if isinstance(each, Evaluation)]
    return found[max(found)]


# --- criteo ---


def criteo(seeds: int) -> dict[str, Any]:
    found = dlrm_scores(DLRM_RECIPE.presets["criteo-sample"][1], seeds)
    return _intervals(summary([each for each in found if isinstance(each, ClickEvaluation)]))


def _interval(found: Interval | PairedDifference) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in found._asdict().items()}


def _intervals(found: dict[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: _interval(interval) for name, interval in found.items()}


SECTIONS: dict[str, Callable[[int], dict[str, Any]]] = {
    "clicks": clicks,
    "queries": queries,
    "lists": lists,
    "criteo": criteo,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    args = parser.parse_args()
    setup_logging()
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    for name in args.only:
        print(f"{name}:", flush=True)
        found = {**SECTIONS[name](args.seeds), "seeds": args.seeds}
        print(json.dumps(found, indent=1), flush=True)
        RESULT.parent.mkdir(exist_ok=True)
        earlier = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        result = {**earlier, name: found}  # one section can be measured anew
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
