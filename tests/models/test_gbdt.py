"""The boosted ranker: learns a planted order, explains itself, and survives a round trip to disk."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_svmlight_file
from sklearn.metrics import ndcg_score

from recray.config import ConfigError
from recray.contract import Scorer
from recray.models.gbdt import GBDTConfig, GBDTRanker, RankingRows
from recray.schema import DataError
from tests.conftest import raw_file

NAMES = ("popularity", "affinity", "noise", "sparse")
CONFIG = GBDTConfig(rounds=25, max_depth=3, learning_rate=0.3)


def planted_rows(num_queries: int = 120, per_query: int = 20, seed: int = 0) -> RankingRows:
    """Relevant is what is popular and liked at once; one column is noise, one is mostly missing."""
    rng = np.random.default_rng(seed)
    features_NF = rng.random((num_queries * per_query, len(NAMES)), dtype=np.float32)
    labels_N = (features_NF[:, 0] * features_NF[:, 1] > 0.45).astype(np.float32)
    features_NF[rng.random(len(features_NF)) < 0.8, 3] = np.nan
    query_ids_N = np.repeat(rng.permutation(10 * num_queries)[:num_queries], per_query)  # not ascending
    return RankingRows(features_NF, labels_N, query_ids_N)


def mean_ndcg(rows: RankingRows, scores_N: np.ndarray, k: int = 10) -> float:
    """By scikit-learn; queries with nothing relevant count 1, as XGBoost has it."""
    values = []
    for query in dict.fromkeys(rows.query_ids_N.tolist()):
        mine = rows.query_ids_N == query
        gains = 2.0 ** rows.labels_N[mine] - 1
        values.append(ndcg_score([gains], [scores_N[mine]], k=k) if gains.any() else 1.0)
    return float(np.mean(values))


@pytest.fixture(scope="module")
def ranker() -> GBDTRanker:
    return GBDTRanker.fit(CONFIG, planted_rows(), NAMES, evaluation=planted_rows(seed=1))


def test_learns_the_planted_order(ranker: GBDTRanker) -> None:
    fresh = planted_rows(seed=2)
    assert mean_ndcg(fresh, ranker.score(fresh.features_NF)) > 0.97
    assert mean_ndcg(fresh, fresh.features_NF[:, 0]) < 0.9
    moved_F = np.abs(ranker.explain(fresh.features_NF)).sum(0)
    assert {NAMES[i] for i in moved_F.argsort()[-2:]} == {"popularity", "affinity"}
    scorer: Scorer = ranker
    assert scorer.score(fresh.features_NF, np.zeros(len(fresh.features_NF), np.int64)).dtype == np.float32


def test_the_recorded_curve_is_ndcg(ranker: GBDTRanker) -> None:
    assert set(ranker.curve) == {"train ndcg@10", "validation ndcg@10"}
    assert ranker.num_trees == CONFIG.rounds == len(ranker.curve["train ndcg@10"])
    for part, rows in (("train", planted_rows()), ("validation", planted_rows(seed=1))):
        expected = mean_ndcg(rows, ranker.score(rows.features_NF))
        assert ranker.curve[f"{part} ndcg@10"][-1] == pytest.approx(expected, abs=2e-3)


def test_fitting_again_gives_the_same_bits(ranker: GBDTRanker) -> None:
    again = GBDTRanker.fit(CONFIG, planted_rows(), NAMES, evaluation=planted_rows(seed=1))
    rows = planted_rows(seed=3)
    assert again.score(rows.features_NF).tobytes() == ranker.score(rows.features_NF).tobytes()


def test_a_row_scores_the_same_alone_and_in_a_list(ranker: GBDTRanker) -> None:
    features_KF = planted_rows().features_NF[:200]
    alone = [float(ranker.score(features_KF[k : k + 1])[0]) for k in range(0, 200, 23)]
    assert ranker.score(features_KF)[::23].tolist() == alone
    assert ranker.score(features_KF[:0]).shape == (0,)


def test_contributions_add_up_to_the_score(ranker: GBDTRanker) -> None:
    features_KF = planted_rows(seed=4).features_NF[:50]
    contributions_KF = ranker.explain(features_KF)
    assert contributions_KF.shape == features_KF.shape
    constant_K = ranker.score(features_KF) - contributions_KF.sum(axis=1)
    np.testing.assert_allclose(constant_K, constant_K[0], atol=1e-4)
    magnitude = np.abs(contributions_KF).mean(axis=0)
    assert magnitude[:2].min() > 5 * magnitude[2:].max()


def test_save_and_load_keep_scores_names_config_and_curve(ranker: GBDTRanker, tmp_path: Path) -> None:
    ranker.save(tmp_path / "ranker.ubj")
    loaded = GBDTRanker.load(tmp_path / "ranker.ubj")
    features_KF = planted_rows(seed=5).features_NF
    assert loaded.score(features_KF).tobytes() == ranker.score(features_KF).tobytes()
    assert (loaded.feature_names, loaded.config, loaded.curve) == (NAMES, CONFIG, ranker.curve)
    with pytest.raises(ConfigError, match=r"saved as \.ubj"):
        ranker.save(tmp_path / "ranker.pkl")


def test_other_columns_than_trained_on_are_refused(ranker: GBDTRanker) -> None:
    with pytest.raises(DataError, match=r"shape \(3, 5\) for a ranker of 4 features"):
        ranker.score(np.zeros((3, 5), np.float32))
    with pytest.raises(DataError, match="ranker of 4 features"):
        ranker.explain(np.zeros((3, 5), np.float32))


def test_files_that_are_no_ranker_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        GBDTRanker.load(tmp_path / "ranker.ubj")
    (tmp_path / "ranker.ubj").write_bytes(json.dumps({"not": "a model"}).encode())
    with pytest.raises(DataError, match=r"ranker\.ubj: not an XGBoost model"):
        GBDTRanker.load(tmp_path / "ranker.ubj")


def test_early_stopping_keeps_the_best_round() -> None:
    train, fresh = planted_rows(30), planted_rows(30, seed=1)
    config = replace(CONFIG, rounds=200, early_stopping_rounds=5)
    ranker = GBDTRanker.fit(config, train, NAMES, evaluation=fresh)
    curve = ranker.curve["validation ndcg@10"]
    assert ranker.num_trees < len(curve) < 200
    assert int(np.argmax(curve)) + 1 == ranker.num_trees
    expected = mean_ndcg(fresh, ranker.score(fresh.features_NF))
    assert max(curve) == pytest.approx(expected, abs=5e-3)  # few trees, many ties: scikit-learn shares them


def test_every_round_is_reported() -> None:
    seen: list[tuple[int, float]] = []
    ranker = GBDTRanker.fit(
        CONFIG, planted_rows(), NAMES, on_round=lambda done, m: seen.append((done, m["train ndcg@10"]))
    )
    assert [done for done, _ in seen] == list(range(1, CONFIG.rounds + 1))
    assert [value for _, value in seen] == ranker.curve["train ndcg@10"]


def none_of(rows: RankingRows) -> RankingRows:
    features_NF, labels_N, query_ids_N = rows
    return RankingRows(features_NF[:0], labels_N[:0], query_ids_N[:0])


def test_rows_that_cannot_be_ranked_are_refused() -> None:
    rows = planted_rows(4, 3)
    mixed = rows._replace(query_ids_N=np.tile([0, 1], 6))
    with pytest.raises(DataError, match="training rows of a query are not side by side"):
        GBDTRanker.fit(CONFIG, mixed, NAMES)
    with pytest.raises(DataError, match="use fewer workers"):
        GBDTRanker.fit(CONFIG, none_of(rows), NAMES)
    with pytest.raises(DataError, match="training rows have 4 columns for 2 feature names"):
        GBDTRanker.fit(CONFIG, rows, NAMES[:2])


@pytest.mark.parametrize(
    "change", [{"rounds": 0}, {"subsample": 0.0}, {"learning_rate": 1.5}, {"early_stopping_rounds": -1}]
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        GBDTConfig(**change)


@pytest.mark.data
def test_ranks_a_real_learning_to_rank_set() -> None:
    folder = raw_file("ltr-lightgbm")

    def read(part: str) -> RankingRows:
        matrix, labels_N = load_svmlight_file(str(folder / f"rank.{part}"), n_features=300, zero_based=False)
        sizes = np.loadtxt(folder / f"rank.{part}.query", dtype=int)
        query_ids_N = np.repeat(np.arange(len(sizes)), sizes)
        return RankingRows(matrix.toarray().astype(np.float32), labels_N.astype(np.float32), query_ids_N)

    train, test = read("train"), read("test")
    names = [f"f{i}" for i in range(300)]
    ranker = GBDTRanker.fit(GBDTConfig(rounds=40), train, names, evaluation=test)
    ndcg = mean_ndcg(test, ranker.score(test.features_NF))
    assert ranker.curve["validation ndcg@10"][-1] == pytest.approx(ndcg, abs=2e-3)
    random = mean_ndcg(test, np.random.default_rng(0).random(len(test.labels_N)))
    assert ndcg > random + 0.1
