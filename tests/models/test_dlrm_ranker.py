"""A DLRM as a ``contract.Scorer``: scores, reasons, its one file, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from recray.models.dlrm import DLRM, DLRMConfig
from recray.models.dlrm_ranker import DLRMRanker, ranker_schema
from recray.schema import DataError

NAMES, NUM_ITEMS = ("clicks", "age", "price"), 7
CONFIG = DLRMConfig(embedding_dim=4, bottom=(8,), top=(8,), loss="lambdarank")


@pytest.fixture
def ranker() -> DLRMRanker:
    schema = ranker_schema(NAMES, NUM_ITEMS)
    model = DLRM(CONFIG, schema, seed=3)
    model.set_dense_stats(*torch.tensor([0.0, 1.0, 0.5, 1.0])[:, None].repeat(1, 3))
    return DLRMRanker(model, CONFIG, schema)


def candidates() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features_KF = rng.random((5, 3), dtype=np.float32)
    features_KF[1, 2] = np.nan
    return features_KF, np.array([0, 6, 3, 3, 1])


def test_items_and_features_both_count(ranker: DLRMRanker) -> None:
    features_KF, item_ids_K = candidates()
    scores_K = ranker.score(features_KF, item_ids_K)
    assert scores_K.dtype == np.float32
    assert np.isfinite(scores_K).all()
    assert scores_K[2] != scores_K[3]  # one item, other features
    same = np.repeat(features_KF[:1], 2, axis=0)
    first, second = ranker.score(same, np.array([0, 1]))
    assert first != second
    unknown = ranker.score(same, np.array([NUM_ITEMS, -1]))
    assert unknown[0] == unknown[1]


def test_a_reason_is_what_the_score_loses_without_the_feature(ranker: DLRMRanker) -> None:
    features_KF, item_ids_K = candidates()
    contributions_KF = ranker.explain(features_KF, item_ids_K)
    for f in range(3):
        typical_KF = features_KF.copy()
        typical_KF[:, f] = 0.5
        lost_K = ranker.score(features_KF, item_ids_K) - ranker.score(typical_KF, item_ids_K)
        np.testing.assert_allclose(contributions_KF[:, f], lost_K, atol=1e-6)


def test_the_file_holds_all_of_it(ranker: DLRMRanker, tmp_path: Path) -> None:
    ranker.save(tmp_path / "ranker.safetensors")
    loaded = DLRMRanker.load(tmp_path / "ranker.safetensors")
    assert loaded.feature_names == NAMES
    features_KF, item_ids_K = candidates()
    np.testing.assert_array_equal(
        loaded.score(features_KF, item_ids_K), ranker.score(features_KF, item_ids_K)
    )
    np.testing.assert_array_equal(
        loaded.explain(features_KF, item_ids_K), ranker.explain(features_KF, item_ids_K)
    )


def test_what_does_not_fit_is_named(ranker: DLRMRanker, tmp_path: Path) -> None:
    path = tmp_path / "ranker.safetensors"
    with pytest.raises(DataError, match="no such file"):
        DLRMRanker.load(path)
    path.write_bytes(b"garbage")
    with pytest.raises(DataError, match="not a readable safetensors file"):
        DLRMRanker.load(path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="neither config nor schema"):
        DLRMRanker.load(path)
    with pytest.raises(DataError, match=r"shape \(2, 2\) for a ranker of 3 features"):
        ranker.score(np.zeros((2, 2), np.float32), np.zeros(2, np.int64))
