"""Gradient boosted trees that order the candidates of a query: LambdaMART, by XGBoost.

Burges, From RankNet to LambdaRank to LambdaMART: An Overview, MSR-TR-2010-82; the choice of pairs is
XGBoost's ``lambdarank_pair_method``. This is the only home of xgboost. Inside a communicator
(``ray.train.xgboost`` opens one in every worker) ``fit`` grows one model out of the rows of all
workers; outside of one it is a single process. Rows of one query must be on one worker.

Shapes: K candidates of a query, F features, N rows of many queries, a query's rows side by side.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import xgboost

from recray.arrays import Float32s, Int64s
from recray.config import ConfigError, from_dict, to_dict
from recray.models.forest import Forest
from recray.schema import DataError

Evaluations = dict[str, dict[str, list[float]]]  # part, then metric, as XGBoost keeps them
Curve = dict[str, list[float]]  # e.g. "validation ndcg@10": one value per round
OnRound = Callable[[int, dict[str, float]], None]  # (rounds done, this round's metrics)

logger = logging.getLogger(__name__)


class RankingRows(NamedTuple):
    """Candidates of many queries, each query's rows side by side."""

    features_NF: Float32s
    labels_N: Float32s  # relevance: 0, 1, or a small grade
    query_ids_N: Int64s


@dataclass(frozen=True, kw_only=True)
class GBDTConfig:
    """The trees and how they are grown."""

    objective: Literal["rank:ndcg", "rank:map", "rank:pairwise"] = "rank:ndcg"
    """What the pairs are weighted by."""
    pair_method: Literal["topk", "mean"] = "topk"
    """topk: pairs with the candidates now in the top places. mean: random pairs per candidate."""
    pairs_per_query: int = 32
    """topk: how many top places; mean: pairs per candidate."""
    rounds: int = 60
    """Trees at most."""
    learning_rate: float = 0.1
    """Shrinks each tree's step (eta)."""
    max_depth: int = 4
    """Depth of a tree; scoring costs rounds times depth."""
    min_child_weight: float = 1.0
    """Smallest sum of second derivatives in a leaf."""
    subsample: float = 1.0
    """Share of rows that a tree sees. Below 1 the result depends a little on the number of workers."""
    feature_fraction: float = 0.8
    """Share of features that a tree sees."""
    l2: float = 1.0
    """Regularisation of leaf values (lambda)."""
    max_bins: int = 256
    """Histogram bins per feature."""
    early_stopping_rounds: int = 0
    """Stop after this many rounds without a better evaluation NDCG and keep the best; 0 never stops."""
    ndcg_at: int = 10
    """Cut-off of the recorded NDCG."""
    seed: int = 0
    num_threads: int = 1
    """Threads per process while training."""

    def __post_init__(self) -> None:
        for name in ("pairs_per_query", "rounds", "max_depth", "max_bins", "ndcg_at", "num_threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("subsample", "feature_fraction", "learning_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
        if self.early_stopping_rounds < 0:
            raise ConfigError(f"early_stopping_rounds must be 0 or more, got {self.early_stopping_rounds}")


class GBDTRanker:
    """A ``contract.Scorer``. Holds its feature names, config and learning curve; saves them as one UBJSON."""

    def __init__(self, booster: xgboost.Booster) -> None:
        self._booster = booster
        self._forest = Forest.of(json.loads(booster.save_raw("json")))
        self._feature_names = tuple(booster.feature_names or ())
        self.config = from_dict(GBDTConfig, json.loads(booster.attr("config") or "{}"))
        self.curve: Curve = json.loads(booster.attr("curve") or "{}")
        booster.set_param({"nthread": 1})
        # The first calls compile the loop and configure the booster; after them several threads may call.
        nothing_KF = np.zeros((1, len(self.feature_names)), np.float32)
        self.score(nothing_KF)
        self.explain(nothing_KF)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self._feature_names

    @property
    def num_trees(self) -> int:
        return int(self._booster.num_boosted_rounds())

    @staticmethod
    def fit(
        config: GBDTConfig,
        train: RankingRows,
        feature_names: Sequence[str],
        *,
        evaluation: RankingRows | None = None,
        on_round: OnRound | None = None,
    ) -> "GBDTRanker":
        """Grow the trees on this worker's rows; every worker of a communicator gets the same model.

        Args:
            evaluation: this worker's share of rows that NDCG is also measured on, over all workers;
                early stopping goes by it, and there is none without it.
            on_round: called after every round on every worker, with NDCG over all workers.
        Raises:
            DataError: no rows, a query whose rows are not side by side, or a wrong number of columns.
        """
        matrices = {"train": _matrix(train, feature_names, config, "training", None)}
        if evaluation is not None:
            reference = matrices["train"]
            matrices["validation"] = _matrix(evaluation, feature_names, config, "evaluation", reference)
        results: dict[str, dict[str, list[float]]] = {}
        booster = xgboost.train(
            _parameters(config),
            matrices["train"],
            num_boost_round=config.rounds,
            evals=[(matrix, name) for name, matrix in matrices.items()],
            evals_result=results,
            early_stopping_rounds=(evaluation is not None and config.early_stopping_rounds) or None,
            callbacks=[_Round(on_round)] if on_round else None,
            verbose_eval=False,
        )
        if evaluation is not None and config.early_stopping_rounds:
            booster = booster[: booster.best_iteration + 1]
        booster.feature_names = list(feature_names)
        booster.set_attr(config=json.dumps(to_dict(config)), curve=json.dumps(_flat(results)))
        return GBDTRanker(booster)

    def score(self, features_KF: Float32s, item_ids_K: Int64s | None = None) -> Float32s:
        """scores_K, float32: margins, comparable within one call. Trees do not look at item ids.

        Raises:
            DataError: not as many columns as the model has features.
        """
        self._check_columns(features_KF)
        return self._forest.score(features_KF)

    def explain(self, features_KF: Float32s, item_ids_K: Int64s | None = None) -> Float32s:
        """contributions_KF, float32: how much each feature moved each score (SHAP values).

        A row's sum and a constant (the mean score of the training rows) make the score. Lundberg et al.,
        Consistent Individualized Feature Attribution for Tree Ensembles, arXiv 1802.03888.
        """
        self._check_columns(features_KF)
        matrix = xgboost.DMatrix(features_KF, feature_names=list(self.feature_names), nthread=1)
        contributions_KF: Float32s = self._booster.predict(matrix, pred_contribs=True)[:, :-1]
        return np.ascontiguousarray(contributions_KF)

    def save(self, path: Path) -> None:
        """Write the model, its feature names, config and curve as UBJSON; ``path`` ends in .ubj."""
        if path.suffix != ".ubj":
            raise ConfigError(f"{path}: a ranker is saved as .ubj")
        self._booster.save_model(path)

    @staticmethod
    def load(path: Path) -> "GBDTRanker":
        """The ranker that ``save`` wrote.

        Raises:
            DataError: the file is missing or no ranker.
        """
        if not path.is_file():
            raise DataError(f"{path}: no such file; a ranker bundle holds one, see GBDTRanker.save")
        booster = xgboost.Booster()
        try:
            booster.load_model(path)
        except xgboost.core.XGBoostError as error:
            raise DataError(f"{path}: not an XGBoost model in UBJSON: {error}") from error
        return GBDTRanker(booster)

    def _check_columns(self, features_KF: Float32s) -> None:
        if features_KF.ndim != 2 or features_KF.shape[1] != len(self.feature_names):
            raise DataError(
                f"features of shape {features_KF.shape} for a ranker of {len(self.feature_names)} features: "
                "compute those that its feature_names say"
            )


class _Round(xgboost.callback.TrainingCallback):  # type: ignore[misc]
    """Hands each round's metrics to a plain function."""

    def __init__(self, on_round: OnRound) -> None:
        super().__init__()
        self._on_round = on_round

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: Evaluations) -> bool:
        self._on_round(epoch + 1, {name: values[-1] for name, values in _flat(evals_log).items()})
        return False


def _flat(results: Evaluations) -> Curve:
    return {
        f"{part} {metric}": list(values)
        for part, metrics in results.items()
        for metric, values in metrics.items()
    }


def _parameters(config: GBDTConfig) -> dict[str, Any]:
    return {
        "objective": config.objective,
        "lambdarank_pair_method": config.pair_method,
        "lambdarank_num_pair_per_sample": config.pairs_per_query,
        "eval_metric": f"ndcg@{config.ndcg_at}",
        "eta": config.learning_rate,
        "max_depth": config.max_depth,
        "min_child_weight": config.min_child_weight,
        "subsample": config.subsample,
        "colsample_bytree": config.feature_fraction,
        "lambda": config.l2,
        "max_bin": config.max_bins,
        "tree_method": "hist",
        "seed": config.seed,
        "nthread": config.num_threads,
    }


def _matrix(
    rows: RankingRows,
    feature_names: Sequence[str],
    config: GBDTConfig,
    what: str,
    reference: xgboost.QuantileDMatrix | None,
) -> xgboost.QuantileDMatrix:
    if not len(rows.features_NF):
        raise DataError(f"no {what} rows on this worker: use fewer workers than there are queries")
    if rows.features_NF.shape[1] != len(feature_names):
        columns = rows.features_NF.shape[1]
        raise DataError(f"{what} rows have {columns} columns for {len(feature_names)} feature names")
    return xgboost.QuantileDMatrix(
        rows.features_NF,
        label=rows.labels_N,
        qid=_runs(rows.query_ids_N, what),
        feature_names=list(feature_names),
        max_bin=config.max_bins,
        nthread=config.num_threads,
        ref=reference,
    )


def _runs(query_ids_N: Int64s, what: str) -> Int64s:
    """Query ids as 0, 1, 2... in order of their rows: XGBoost wants them sorted."""
    runs_N: Int64s = np.concatenate([[0], np.cumsum(np.diff(query_ids_N) != 0)])
    if runs_N[-1] + 1 != len(np.unique(query_ids_N)):
        raise DataError(f"the {what} rows of a query are not side by side; sort them by query id")
    return runs_N
