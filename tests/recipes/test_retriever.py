"""Every registered retriever: trained by its recipe, published, a ranker behind it, and asked."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recray.batch import Jagged, QueryBatch
from recray.bundles import searcher
from recray.bundles.retriever import read_retriever
from recray.bundles.searcher import Searcher
from recray.bundles.weights import load_model
from recray.contract import VectorRetriever, reads_history
from recray.data.events.examples import eval_examples
from recray.data.events.split_data import DataConfig, open_split
from recray.eval.two_stage import MeasuredStages
from recray.features.candidates import POPULAR, CandidateConfig
from recray.models.ease import EASEConfig
from recray.models.gat import GATConfig
from recray.models.gbdt import GBDTConfig
from recray.models.ials import IALSConfig
from recray.models.ncf import NCFConfig
from recray.models.sasrec import SASRecConfig
from recray.models.ss4rec import SS4RecConfig
from recray.ops.ann import IndexConfig
from recray.pipelines.reindex import reindex
from recray.pipelines.train import train
from recray.recipes import RECIPES
from recray.recipes.at_once import EASERun, IALSRun, ItemKNNRun
from recray.recipes.graph import GATRun
from recray.recipes.pairs import NCFRun
from recray.recipes.ranker import GBDT_RANKER, GBDTRankerRun
from recray.recipes.retriever import as_retriever, evaluate_retriever
from recray.recipes.sequence import SASRecRun, SS4RecRun
from recray.recipes.two_stage import TwoStage
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store, read_history, run_record
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig

LOCAL = LaunchConfig(where="local")
CHANCE = 0.09  # NDCG@10 of an order drawn at random
RANKER = GBDTRankerRun(
    candidates=CandidateConfig(retrieved=30, popular=5), model=GBDTConfig(rounds=5), negatives=0
)
RUNS: dict[str, Any] = {
    "ncf": NCFRun(
        model=NCFConfig(factor_dim=16, mlp_dim=8, hidden_dims=(16,), dropout=0.1),
        optim=OptimConfig(lr=0.02),
        loop=LoopConfig(epochs=20, batch_size=256),
        negatives=4,
    ),
    "gat": GATRun(
        model=GATConfig(embedding_dim=16, heads=2),
        optim=OptimConfig(lr=0.02),
        loop=LoopConfig(epochs=5, batch_size=128),
    ),
    "item_knn": ItemKNNRun(),
    "ease": EASERun(model=EASEConfig(l2=20.0, recency=10.0)),
    "ials": IALSRun(model=IALSConfig(embedding_dim=16, recency=10.0)),
    "sasrec": SASRecRun(
        model=SASRecConfig(dim=16, num_layers=1, hidden_dim=32),
        optim=OptimConfig(lr=0.02),
        loop=LoopConfig(epochs=6, batch_size=32),
    ),
    "ss4rec": SS4RecRun(
        model=SS4RecConfig(dim=16),
        optim=OptimConfig(lr=0.02),
        loop=LoopConfig(epochs=3, batch_size=32),
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """120 users in two tastes over 60 items, ten events each; user u0 has a single one."""
    rng = np.random.default_rng(0)
    rows = [("u0", "i3", 4, 1_600_000_000)]
    for user in range(1, 121):
        items = 2 * rng.choice(30, size=10, replace=False) + user % 2
        times = np.sort(rng.integers(1_600_000_000, 1_600_900_000, size=10))
        rows += [(f"u{user}", f"i{item}", 4, int(t)) for item, t in zip(items, times, strict=True)]
    path = tmp_path_factory.mktemp("raw") / "tastes.csv"
    pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row").write_csv(path)
    return DataConfig(dataset=f"{path}?name=tastes", split="leave-one-out")


@pytest.fixture(scope="module", params=sorted(RUNS))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def run(name: str, data: DataConfig) -> Any:
    return replace(RUNS[name], data=data, index=IndexConfig(kind="exact"))


@pytest.fixture(scope="module")
def store() -> Store:
    """The one that a ranker opens its retriever from."""
    return Store()


@pytest.fixture(scope="module")
def trained(name: str, run: Any, store: Store) -> Any:
    return train(RECIPES[name], run, LOCAL, store)


def test_it_is_published_with_what_it_needs_to_answer(name: str, run: Any, trained: Any) -> None:
    assert trained.bundle.manifest.name == f"tastes-{name}"
    assert trained.measured.means()["ndcg@10"] > 1.5 * CHANCE
    files, model = read_retriever(trained.bundle), load_model(trained.bundle)
    assert (files.index is not None) == isinstance(model, VectorRetriever)
    # A user is a vector that is computed ahead, or what it did.
    assert (files.user_UD is None) == (name != "gat")
    assert files.log is not None  # which items a user has seen
    assert files.user_counts_U is not None
    data = open_split(run.data)
    assert files.user_counts_U.sum() == files.item_counts_I.sum() == len(data.dataset)
    recall = trained.bundle.manifest.metrics.get("index_recall@60")
    assert recall == (1.0 if isinstance(model, VectorRetriever) else None)


def test_what_was_measured_is_kept_beside_what_is_served(run: Any, trained: Any) -> None:
    data, measured = open_split(run.data), trained.bundle.measured
    measured.verify()
    files = read_retriever(measured)
    assert files.user_counts_U is not None
    assert files.user_counts_U.sum() == data.split.train_N.sum()
    again = evaluate_retriever(as_retriever(load_model(measured)), data)
    assert again.means()["ndcg@10"] == trained.measured.means()["ndcg@10"]
    # What is served has learnt what is asked for here.
    served = evaluate_retriever(as_retriever(load_model(trained.bundle)), data)
    assert served.means()["ndcg@10"] > again.means()["ndcg@10"]
    record = run_record(trained.bundle)
    assert record.learnt_until == data.learning("all").until() > data.until()
    best = max(read_history(trained.bundle), key=lambda report: report.get("ndcg@10", 0.0))
    assert record.refitted_epochs == best["epoch"]


def test_a_new_index_is_measured_with_what_users_did(trained: Any, store: Store) -> None:
    name, before = trained.bundle.manifest.name, trained.bundle.manifest.metrics
    if "index_recall@60" not in before:
        pytest.skip("has no vectors")
    second = reindex(name, str(trained.bundle.manifest.version), IndexConfig(kind="hnsw"), store)
    assert second.manifest.metrics["index_recall@60"] > 0.95
    assert second.manifest.metrics["ndcg@10"] == before["ndcg@10"]
    assert second.measured.manifest.files.keys() == trained.bundle.measured.manifest.files.keys()
    files = read_retriever(second)
    assert files.log is not None
    assert files.user_counts_U is not None


def items_of(run: Any, user: str) -> set[str]:
    """Raw ids of all that a user did."""
    data = open_split(run.data).dataset
    mine_N = data.user_ids_N == data.users["raw_id"].to_list().index(user)
    return {data.items["raw_id"][item] for item in data.item_ids_N[mine_N].tolist()}


def test_it_answers_alone_as_it_was_measured(name: str, run: Any, trained: Any, store: Store) -> None:
    """The best unseen item of every user, asked at the end of the log."""
    pipeline = Pipeline(open_served(store, trained.bundle.manifest.name, trained.bundle.manifest.version))
    model: Any = load_model(trained.bundle)
    for user in ("u7", "u8"):
        answer = pipeline.recommend(RecommendRequest(user_id=user, k=5, request_time=1_600_900_001))
        assert answer["fallback"] is None
        assert not items_of(run, user) & {item["item_id"] for item in answer["items"]}
        assert {item["source"] for item in answer["items"]} <= {name, "popular"}
        parity = [int(item["item_id"][1:]) % 2 for item in answer["items"]]
        assert sum(p == int(user[1:]) % 2 for p in parity) >= 4
    stranger = pipeline.recommend(RecommendRequest(history=["i2", "i4", "i8"], k=5))
    assert stranger["fallback"] == (None if reads_history(model) else "history")
    assert sum(int(item["item_id"][1:]) % 2 == 0 for item in stranger["items"]) >= 3
    single = pipeline.recommend(RecommendRequest(user_id="u0", k=5, request_time=1_600_900_001))
    assert len(single["items"]) == 5
    assert "i3" not in {item["item_id"] for item in single["items"]}


def test_a_ranker_learns_from_its_candidates(run: Any, trained: Any, store: Store) -> None:
    named = {"retriever": trained.bundle.manifest.name, "retriever_version": "1"}
    ranker = train(GBDT_RANKER, replace(RANKER, data=run.data, **named), LOCAL, store)
    served = ranker.bundle.manifest
    assert served.requires["retriever"] == trained.bundle.reference
    pipeline = Pipeline(open_served(store, served.name, served.version))
    answer = pipeline.recommend(RecommendRequest(user_id="u7", k=5, explain=True))
    assert len(answer["items"]) == 5
    assert isinstance(ranker.measured, MeasuredStages)
    assert ranker.measured.ranker.card == ranker.measured.retriever.card


def test_its_candidates_in_training_are_those_of_a_replica(run: Any, trained: Any, store: Store) -> None:
    examples, _ = eval_examples(open_split(run.data).dataset, open_split(run.data).split, "validation")
    queries = examples.queries.slice(0, 5)
    found = TwoStage(trained.bundle, open_split(run.data), RANKER.candidates).candidates(queries)
    model: Any = load_model(trained.bundle.measured)
    scores_BI = model.score_items(queries)
    for b, candidates in enumerate(found):
        seen = set(queries.history.row(b).tolist())
        assert not seen & set(candidates.item_ids_K.tolist())
        expected_K = scores_BI[b, candidates.item_ids_K].numpy()
        np.testing.assert_allclose(candidates.scores_K, expected_K, rtol=1e-4, atol=1e-5)
        unseen = [float(s) for i, s in enumerate(scores_BI[b]) if i not in seen]
        assert candidates.scores_K[0] == pytest.approx(max(unseen), rel=1e-4)


def test_queries_without_anything_learnt_get_the_same_candidates_in_training(
    run: Any, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without training events is an unknown one; nothing to go by leaves what is popular."""
    stages = TwoStage(trained.bundle, open_split(run.data), RANKER.candidates)
    counts_U = np.ones(121, np.int64)
    counts_U[7] = 0
    files, model = replace(read_retriever(trained.bundle), user_counts_U=counts_U), load_model(trained.bundle)
    stages.searcher = Searcher(files, model)
    history = Jagged.from_rows([[2, 4, 8], [2, 4, 8], [], []])
    times_N, time_B = torch.full((6,), 1_600_900_000), torch.full((4,), 1_600_900_001)
    queries = QueryBatch(torch.tensor([7, -1, 7, -1]), history, times_N, time_B)
    calls: list[int] = []
    name = "query_vectors" if files.index else "score_items"
    asked = getattr(model, name)
    monkeypatch.setattr(searcher, "PREPARED_TOGETHER", 3)

    def counted(part: QueryBatch) -> torch.Tensor:
        calls.append(len(part.user_ids_B))
        scores_or_vectors: torch.Tensor = asked(part)
        return scores_or_vectors

    monkeypatch.setattr(model, name, counted)
    untrained, unknown, *nothing = stages.candidates(queries)
    assert calls == [3]  # never all queries at once, nor for those that it can say nothing about
    np.testing.assert_array_equal(untrained.item_ids_K, unknown.item_ids_K)
    np.testing.assert_allclose(untrained.scores_K, unknown.scores_K, rtol=1e-5)
    for candidates in nothing:
        assert (candidates.sources_K == POPULAR).all()
        assert np.isnan(candidates.scores_K).all()
    torch.testing.assert_close(*stages.score_items(queries)[:2])


@pytest.mark.parametrize("name", ["ncf"])
def test_presets_name_the_data_sets_of_the_benchmark(name: str) -> None:
    assert RECIPES[name].presets.keys() >= {"synthetic", "ml-100k", "ml-1m"}
