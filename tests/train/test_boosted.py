"""Boosting through the one door: alone, and on the workers of Ray's XGBoostTrainer."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recray.arrays import Float32s
from recray.features.examples import RankingExamples, load_examples, quantized, save_examples, share
from recray.features.ranking import FEATURES
from recray.models.gbdt import GBDTConfig, GBDTRanker
from recray.train.boosted import train_boosted

CONFIG = GBDTConfig(rounds=40, learning_rate=0.2)
NAMES = tuple(FEATURES)
COLUMN = {name: f for f, name in enumerate(NAMES)}


def planted_examples(num_queries: int = 300, seed: int = 0) -> RankingExamples:
    """Lists of different lengths; one in five relevant: popular, liked and well retrieved, with noise."""
    rng = np.random.default_rng(seed)
    query_ids_N = np.repeat(np.arange(num_queries), rng.integers(5, 60, num_queries))
    features_NF = rng.random((len(query_ids_N), len(NAMES)), dtype=np.float32)
    liked, known, near = (
        features_NF[:, COLUMN[name]] for name in ("genre_affinity", "item_events_30d", "retrieval_score")
    )
    truth_N = liked * known + near**2 + rng.normal(0, 0.15, len(query_ids_N))
    labels_N = (truth_N > np.quantile(truth_N, 0.8)).astype(np.float32)
    features_NF[rng.random(features_NF.shape) < 0.05] = np.nan
    return RankingExamples(NAMES, features_NF, labels_N, query_ids_N, np.arange(len(query_ids_N)))


def mean_ndcg(ranker: GBDTRanker, examples: RankingExamples, k: int = 10) -> float:
    """Slow and independent of XGBoost; queries with nothing relevant are left out."""
    scores_N, values = ranker.score(examples.features_NF), []
    for query in np.unique(examples.query_ids_N):
        mine = examples.query_ids_N == query
        labels = examples.labels_N[mine][np.argsort(-scores_N[mine], kind="stable")]
        ideal = np.sort(labels)[::-1]
        discounts = 1 / np.log2(np.arange(2, len(labels) + 2))
        if ideal.any():
            values.append((labels * discounts)[:k].sum() / (ideal * discounts)[:k].sum())
    return float(np.mean(values))


def test_alone_it_learns_reports_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    rounds: list[int] = []
    package = logging.getLogger("recray")
    propagates, package.propagate = package.propagate, True
    try:
        with caplog.at_level(logging.INFO, "recray.train.boosted"):
            ranker = train_boosted(
                planted_examples(),
                CONFIG,
                evaluation=planted_examples(80, seed=1),
                on_round=lambda done, metrics: rounds.append(done),
            )
    finally:
        package.propagate = propagates
    fresh = planted_examples(100, seed=2)
    by_retrieval = replace_scores(fresh, COLUMN["retrieval_score"])
    assert mean_ndcg(ranker, fresh) > by_retrieval + 0.05
    assert rounds == list(range(1, CONFIG.rounds + 1))
    assert ranker.feature_names == NAMES
    assert "of 300 queries" in caplog.text
    assert "boosted 40 trees: {'train ndcg@10'" in caplog.text


def replace_scores(examples: RankingExamples, column: int) -> float:
    """NDCG of the order that one feature alone gives."""

    class ByColumn:
        def score(self, features_NF: Float32s) -> Float32s:
            scores_N: Float32s = np.nan_to_num(features_NF[:, column], nan=-1.0)
            return scores_N

    return mean_ndcg(ByColumn(), examples)  # type: ignore[arg-type]


def test_the_order_of_queries_matters_to_no_bit_of_their_scores() -> None:
    """A worker may read its queries from anywhere in the file: labels and rows travel together."""
    examples = planted_examples(60)
    ids = np.unique(examples.query_ids_N)[::-1]
    rows = np.concatenate([np.flatnonzero(examples.query_ids_N == query) for query in ids])
    turned = examples.select(rows)
    config = replace(CONFIG, rounds=5)
    fresh = planted_examples(20, seed=3)
    expected = train_boosted(examples, config).score(fresh.features_NF)
    np.testing.assert_allclose(train_boosted(turned, config).score(fresh.features_NF), expected, atol=1e-3)


def test_a_ranker_of_quantized_rows_scores_raw_rows_alike() -> None:
    """Why features need no rounding when served: every split lies between two kept values."""
    examples = planted_examples(100)
    rounded = quantized(examples, bins=20)
    ranker = train_boosted(rounded, CONFIG)
    assert ranker.score(rounded.features_NF).tobytes() == ranker.score(examples.features_NF).tobytes()


def worker(values: dict[str, Any]) -> None:
    """What a launcher runs in every worker: its share in, the model out, rank 0 keeps it."""
    import tempfile

    import ray.train

    position = ray.train.get_context()
    rank, world_size = position.get_world_rank(), position.get_world_size()
    folder = Path(values["folder"])
    train, evaluation = (
        load_examples(folder / f"{part}.parquet", rank, world_size) for part in ("train", "test")
    )
    ranker = train_boosted(train, values["config"], evaluation=evaluation, rank=rank)
    (folder / f"worker-{world_size}-{rank}.json").write_text(
        json.dumps(
            {
                "queries": np.unique(train.query_ids_N).tolist(),
                "rows": len(train.labels_N),
                "scores": ranker.score(evaluation.features_NF[:10]).tolist(),
                "curve": ranker.curve,
            }
        )
    )
    with tempfile.TemporaryDirectory() as checkpoint:
        if rank == 0:
            ranker.save(Path(checkpoint) / "ranker.ubj")
        # Every worker reports; result.metrics is None unless the report carries a checkpoint.
        ray.train.report(
            {"ndcg@10": ranker.curve["validation ndcg@10"][-1]},
            checkpoint=ray.train.Checkpoint.from_directory(checkpoint) if rank == 0 else None,
        )


@pytest.fixture(scope="module")
def trained(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Any]]:
    """num_workers -> the ranker that so many Ray Train workers made and what each worker saw."""
    import ray.train
    import ray.train.xgboost

    folder = tmp_path_factory.mktemp("boosted")
    save_examples(quantized(planted_examples()), folder / "train.parquet")
    save_examples(planted_examples(100, seed=2), folder / "test.parquet")
    done: dict[int, dict[str, Any]] = {}

    def run(num_workers: int) -> dict[str, Any]:
        if num_workers not in done:
            result = ray.train.xgboost.XGBoostTrainer(
                worker,
                train_loop_config={"folder": str(folder), "config": CONFIG},
                scaling_config=ray.train.ScalingConfig(num_workers=num_workers, use_gpu=False),
                run_config=ray.train.RunConfig(name=f"workers-{num_workers}", storage_path=str(folder)),
            ).fit()
            assert result.checkpoint is not None
            assert result.metrics is not None
            files = [folder / f"worker-{num_workers}-{rank}.json" for rank in range(num_workers)]
            done[num_workers] = {
                "ranker": GBDTRanker.load(Path(result.checkpoint.path) / "ranker.ubj"),
                "ndcg": result.metrics["ndcg@10"],
                "workers": [json.loads(file.read_text()) for file in files],
            }
        return done[num_workers]

    return run


@pytest.mark.ray
@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_result(
    trained: Callable[[int], dict[str, Any]],
) -> None:
    test = planted_examples(100, seed=2)
    alone = mean_ndcg(train_boosted(quantized(planted_examples()), CONFIG), test)
    one, two = mean_ndcg(trained(1)["ranker"], test), mean_ndcg(trained(2)["ranker"], test)
    assert abs(one - alone) < 1e-6
    assert abs(two - one) < 0.002
    scores, again = (trained(workers)["ranker"].score(test.features_NF) for workers in (1, 2))
    np.testing.assert_allclose(scores, again, atol=1e-3)  # the same trees, up to the order of additions
    assert abs(trained(2)["ndcg"] - trained(1)["ndcg"]) < 0.002  # as XGBoost measured it over all workers


@pytest.mark.ray
@pytest.mark.slow
def test_no_query_is_split_and_all_workers_end_with_one_model(
    trained: Callable[[int], dict[str, Any]],
) -> None:
    first, second = trained(2)["workers"]
    assert not set(first["queries"]) & set(second["queries"])
    assert sorted(first["queries"] + second["queries"]) == list(range(300))
    whole = planted_examples()
    assert first["rows"] == len(share(whole, 0, 2).labels_N)
    assert abs(first["rows"] - second["rows"]) < 60
    assert first["curve"] == second["curve"]  # reduced over workers
    test = planted_examples(100, seed=2)
    for rank, seen in enumerate((first, second)):
        features_NF = share(test, rank, 2).features_NF[:10]
        np.testing.assert_array_equal(trained(2)["ranker"].score(features_NF), np.float32(seen["scores"]))
