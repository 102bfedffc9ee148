"""The compiled forest against XGBoost itself, bit for bit."""

import json
from typing import Any

import numpy as np
import pytest
import xgboost

from recray.models.forest import Forest


def grown(rows: int, features: int, **parameters: Any) -> xgboost.Booster:
    rng = np.random.default_rng(0)
    features_NF = rng.normal(size=(rows, features)).astype(np.float32).round(1)
    features_NF[rng.random(features_NF.shape) < 0.3] = np.nan
    labels_N = (np.nan_to_num(features_NF).sum(axis=1) + rng.normal(size=rows) > 0).astype(np.float32)
    matrix = xgboost.DMatrix(features_NF, label=labels_N, qid=np.arange(rows) // 10)
    return xgboost.train({"tree_method": "hist", "nthread": 1, **parameters}, matrix, num_boost_round=12)


def hard_rows(booster: xgboost.Booster, count: int, features: int) -> np.ndarray:
    """Thresholds themselves and their neighbours, what is missing, zeros of both signs, and infinity."""
    rng = np.random.default_rng(1)
    trees = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"]
    values = np.unique(np.array([v for tree in trees for v in tree["split_conditions"]], np.float32))
    values = np.concatenate([values, np.nextafter(values, np.float32(-np.inf))])
    values = np.append(values, np.array([0.0, -0.0, np.nan, np.nan, np.inf, -np.inf], np.float32))
    return rng.choice(values, (count, features))


@pytest.mark.parametrize("objective", ["rank:ndcg", "rank:map", "rank:pairwise"])
@pytest.mark.parametrize("max_depth", [1, 3, 9])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 300])
def test_scores_are_those_of_xgboost(objective: str, max_depth: int, count: int) -> None:
    booster = grown(400, 5, objective=objective, max_depth=max_depth, base_score=0.25)
    features_KF = hard_rows(booster, max(count, 1), 5)
    expected_K = booster.inplace_predict(features_KF, predict_type="margin")[:count]
    forest = Forest.of(json.loads(booster.save_raw("json")))
    assert forest.score(features_KF[:count]).tobytes() == expected_K.tobytes()


def test_trees_that_never_split_add_their_one_leaf() -> None:
    booster = grown(60, 2, objective="rank:ndcg", gamma=1e9)
    assert Forest.of(json.loads(booster.save_raw("json"))).depth_T.max() == 0
    features_KF = np.zeros((3, 2), np.float32)
    expected_K = booster.inplace_predict(features_KF, predict_type="margin")
    forest = Forest.of(json.loads(booster.save_raw("json")))
    assert forest.score(features_KF).tobytes() == expected_K.tobytes()
