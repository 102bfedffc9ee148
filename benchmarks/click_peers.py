"""What a DLRM is measured against: logistic regression and boosted trees on the same rows.

Their settings, and the categories that they do without, are those that the validation part likes best (AUC).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightgbm
import numpy as np
import scipy.sparse as sp
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recray.data.row_block import MultiHot, RowBlock
from recray.data.row_source import Part

Blocks = dict[Part, RowBlock]
Ignored = Sequence[tuple[str, ...]]  # categories that a peer may do without
Predict = Callable[[RowBlock], np.ndarray]
REGULARISATIONS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # C of the logistic regression
XGBOOST = {"eta": 0.1, "min_child_weight": 30}
DEPTHS = (4, 6, 8)
LIGHTGBM = {"learning_rate": 0.05, "min_child_samples": 30, "bagging_fraction": 0.8, "bagging_freq": 1}
LEAVES = (4, 15, 31)


def logistic_regression(blocks: Blocks, ignored: Ignored) -> np.ndarray:
    """logits_N of the test part."""
    train = blocks["train"].dense_NF.astype(np.float64)
    mean_F, std_F = np.nanmean(train, axis=0), np.nanstd(train, axis=0)

    def columns(block: RowBlock, ignore: Sequence[str]) -> sp.csr_matrix:
        z_NF = (block.dense_NF - mean_F) / std_F  # scaled as the DLRM's
        dense_NF = np.nan_to_num(np.sign(z_NF) * np.log1p(np.abs(z_NF)))
        return sp.hstack([sp.csr_matrix(dense_NF), *_one_hot(block, ignore)]).tocsr()

    def fitted(ignore: Sequence[str], strength: float) -> Predict:
        model = LogisticRegression(C=strength, max_iter=300)
        model.fit(columns(blocks["train"], ignore), blocks["train"].labels_N)
        return lambda block: model.decision_function(columns(block, ignore))

    settings = [(ignore, strength) for ignore in ignored for strength in REGULARISATIONS]
    return _best("logistic regression", blocks, fitted, settings)


def xgboost_trees(blocks: Blocks, ignored: Ignored, depths: Sequence[int] = DEPTHS) -> np.ndarray:
    """logits_N of the test part; ids as categorical codes or one-hot, whichever validation likes best."""

    def matrix(block: RowBlock, ignore: Sequence[str], codes: bool) -> xgboost.DMatrix:
        left, kinds = _matrix(block, ignore, codes)
        return xgboost.DMatrix(left, block.labels_N, feature_types=kinds, enable_categorical=True)

    def fitted(ignore: Sequence[str], codes: bool, depth: int) -> Predict:
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

    return _best("xgboost", blocks, fitted, list(_of_trees(ignored, depths)))


def lightgbm_trees(blocks: Blocks, ignored: Ignored, seed: int = 0) -> np.ndarray:
    """logits_N of the test part; rows and columns sampled by the seed."""
    fixed = {**LIGHTGBM, "objective": "binary", "metric": "auc", "num_threads": 1, "verbose": -1}

    def fitted(ignore: Sequence[str], codes: bool, leaves: int) -> Predict:
        def made(part: Part) -> lightgbm.Dataset:
            left, kinds = _matrix(blocks[part], ignore, codes)
            named = [place for place, kind in enumerate(kinds) if kind == "c"]
            return lightgbm.Dataset(
                left, blocks[part].labels_N, categorical_feature=named, params={"verbose": -1}
            )

        model = lightgbm.train(
            {**fixed, "num_leaves": leaves, "feature_fraction": 0.8, "seed": seed},
            made("train"),
            500,
            valid_sets=[made("validation")],
            callbacks=[lightgbm.early_stopping(30, verbose=False)],
        )
        return lambda block: np.asarray(model.predict(_matrix(block, ignore, codes)[0], raw_score=True))

    return _best("lightgbm", blocks, fitted, list(_of_trees(ignored, LEAVES)))


def _of_trees(ignored: Ignored, sizes: Sequence[int]) -> Iterator[tuple[tuple[str, ...], bool, int]]:
    return ((ignore, codes, size) for ignore in ignored for codes in (True, False) for size in sizes)


def _matrix(block: RowBlock, ignore: Sequence[str], codes: bool) -> tuple[sp.csr_matrix, list[str]]:
    """Columns, and whether each is a number (q) or a category's code (c)."""
    dense, kinds = [block.dense_NF], ["q"] * block.dense_NF.shape[1]
    names = [name for name, ids in block.ids.items() if not isinstance(ids, MultiHot)] if codes else []
    names = [name for name in names if name not in ignore]
    dense += [np.asarray(block.ids[name], np.float32)[:, None] for name in names]
    kinds += ["c"] * len(names)
    left = sp.hstack([_all_there(np.hstack(dense)), *_one_hot(block, [*ignore, *names])]).tocsr()
    return left, kinds + ["q"] * (left.shape[1] - len(kinds))


def _best(name: str, blocks: Blocks, fitted: Callable[..., Predict], settings: Sequence[Any]) -> np.ndarray:
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
