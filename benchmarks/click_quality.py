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
import scipy.sparse as sp
import torch
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recray.config import override
from recray.data.events.prepare import load_or_prepare
from recray.data.events.splits import global_time
from recray.data.row_block import MultiHot, RowBlock
from recray.data.row_source import PARTS, Part
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

Blocks = dict[Part, RowBlock]
RESULT = Path(__file__).parent / "results" / "click_quality.json"
LOCAL = LaunchConfig(where="local")
REGULARISATIONS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # C of the logistic regression
IGNORED: tuple[tuple[str, ...], ...] = ((), ("user_id",))  # categories that a peer may do without
XGBOOST = {"eta": 0.1, "min_child_weight": 30}
DEPTHS = (4, 6, 8)
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
        "logistic_regression": [_of_test(table, blocks, users_N, _logistic_regression(blocks))],
        "xgboost": [_of_test(table, blocks, users_N, _xgboost(blocks))],
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


def _logistic_regression(blocks: Blocks) -> np.ndarray:
    """logits_N of the test part, with the regularisation and the categories that validation likes best."""
    train = blocks["train"].dense_NF.astype(np.float64)
    mean_F, std_F = np.nanmean(train, axis=0), np.nanstd(train, axis=0)

    def columns(block: RowBlock, ignore: Sequence[str]) -> sp.csr_matrix:
        z_NF = (block.dense_NF - mean_F) / std_F  # scaled as the DLRM's
        dense_NF = np.nan_to_num(np.sign(z_NF) * np.log1p(np.abs(z_NF)))
        return sp.hstack([sp.csr_matrix(dense_NF), *_one_hot(block, ignore)]).tocsr()

    def fitted(ignore: Sequence[str], strength: float) -> Callable[[RowBlock], np.ndarray]:
        model = LogisticRegression(C=strength, max_iter=300)
        model.fit(columns(blocks["train"], ignore), blocks["train"].labels_N)
        return lambda block: model.decision_function(columns(block, ignore))

    settings = [(ignore, strength) for ignore in IGNORED for strength in REGULARISATIONS]
    return _best("logistic regression", blocks, fitted, settings)


def _xgboost(blocks: Blocks) -> np.ndarray:
    """logits_N of the test part, ids as categorical codes or one-hot, whichever validation likes best."""

    def matrix(block: RowBlock, ignore: Sequence[str], codes: bool) -> xgboost.DMatrix:
        dense, kinds = [block.dense_NF], ["q"] * block.dense_NF.shape[1]
        names = [name for name, ids in block.ids.items() if not isinstance(ids, MultiHot)] if codes else []
        names = [name for name in names if name not in ignore]
        dense += [np.asarray(block.ids[name], np.float32)[:, None] for name in names]
        kinds += ["c"] * len(names)
        left = sp.hstack([_all_there(np.hstack(dense)), *_one_hot(block, [*ignore, *names])]).tocsr()
        kinds += ["q"] * (left.shape[1] - len(kinds))
        return xgboost.DMatrix(left, block.labels_N, feature_types=kinds, enable_categorical=True)

    def fitted(ignore: Sequence[str], codes: bool, depth: int) -> Callable[[RowBlock], np.ndarray]:
        parts = {part: matrix(blocks[part], ignore, codes) for part in ("train", "validation")}
        settings = {"objective": "binary:logistic", "eval_metric": "auc", "tree_method": "hist"}
        model = xgboost.train(
            {**settings, **XGBOOST, "max_depth": depth, "nthread": 1},
            parts["train"],
            500,
            evals=[(parts["validation"], "v")],
            early_stopping_rounds=20,
            verbose_eval=False,
        )
        rounds = (0, model.best_iteration + 1)
        return lambda block: model.predict(
            matrix(block, ignore, codes), output_margin=True, iteration_range=rounds
        )

    settings = [(ignore, codes, depth) for ignore in IGNORED for codes in (True, False) for depth in DEPTHS]
    return _best("xgboost", blocks, fitted, settings)


def _best(
    name: str,
    blocks: Blocks,
    fitted: Callable[..., Callable[[RowBlock], np.ndarray]],
    settings: Sequence[Any],
) -> np.ndarray:
    best, logits_N = -np.inf, np.empty(0)
    for each in settings:
        predict = fitted(*each)
        auc = roc_auc_score(blocks["validation"].labels_N, predict(blocks["validation"]))
        print(f"  {name} {each}: validation auc {auc:.4f}", flush=True)
        if auc > best:
            best, logits_N = auc, predict(blocks["test"])
    return logits_N


def _all_there(values_NF: np.ndarray) -> sp.csr_matrix:
    """Every value stored, zeros too: what is not stored is missing to XGBoost."""
    rows, width = values_NF.shape
    columns = np.tile(np.arange(width), rows)
    return sp.csr_matrix(
        (values_NF.ravel(), columns, np.arange(0, rows * width + 1, width)), shape=(rows, width)
    )


def _one_hot(block: RowBlock, ignore: Sequence[str]) -> list[sp.csr_matrix]:
    """Indicators of every category; of several per row each its share, as DLRM averages."""
    made = []
    for feature in block.schema.sparse:
        if feature.name in ignore:
            continue
        ids = block.ids[feature.name]
        if isinstance(ids, MultiHot):
            values, offsets_N = ids.values, ids.offsets_N
        else:
            values, offsets_N = ids, np.arange(len(block) + 1)
        lengths_N = np.diff(offsets_N)
        share = np.repeat(1 / np.maximum(lengths_N, 1), lengths_N).astype(np.float32)
        made.append(sp.csr_matrix((share, values, offsets_N), shape=(len(block), feature.size)))
    return made


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
