"""From events in a file to published bundles that answer: the loop of the README, small and local."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.bundles.naming import bundle_name
from recray.bundles.retriever import read_retriever
from recray.config import ConfigError, override
from recray.data.events.split_data import DataConfig, open_split
from recray.eval.compare import to_json
from recray.eval.two_stage import MeasuredStages
from recray.features.candidates import CandidateConfig
from recray.models.gbdt import GBDTConfig
from recray.models.two_tower import TwoTowerConfig
from recray.ops.ann import IndexConfig
from recray.pipelines.compare import compare_models
from recray.pipelines.reindex import reindex
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_for
from recray.recipes.pairs import TWO_TOWER, TwoTowerRun
from recray.recipes.ranker import DLRM_RANKER, GBDT_RANKER, DLRMRankerRun, GBDTRankerRun
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig

LOCAL = LaunchConfig(where="local")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 users in two tastes over 60 items, ten events each; a user's items of one kind come in order."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(120):
        items = 2 * rng.choice(30, size=10, replace=False) + user % 2
        times = np.sort(rng.integers(1_600_000_000, 1_600_900_000, size=10))
        rows += [(f"u{user}", f"i{item}", 4, int(t)) for item, t in zip(items, times, strict=True)]
    path = tmp_path_factory.mktemp("raw") / "events.csv"
    pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row").write_csv(path)
    return path


@pytest.fixture(scope="module")
def data(events: Path) -> DataConfig:
    return DataConfig(dataset=str(events), split="leave-one-out")


@pytest.fixture(scope="module")
def store() -> Store:
    """The one that a ranker opens its retriever from."""
    return Store()


@pytest.fixture(scope="module")
def run(data: DataConfig) -> TwoTowerRun:
    loop = LoopConfig(epochs=20, batch_size=128)
    model, optim = TwoTowerConfig(embedding_dim=16), OptimConfig(lr=0.02)
    return TwoTowerRun(data=data, model=model, loop=loop, optim=optim, index=IndexConfig(kind="exact"))


@pytest.fixture(scope="module")
def ranker_run(data: DataConfig) -> GBDTRankerRun:
    return GBDTRankerRun(
        data=data,
        candidates=CandidateConfig(retrieved=30, popular=5),
        model=GBDTConfig(rounds=10),
        negatives=0,
    )


def test_the_loop_ends_in_an_application_that_answers(
    run: TwoTowerRun, ranker_run: GBDTRankerRun, store: Store
) -> None:
    retriever = train(TWO_TOWER, run, LOCAL, store)
    assert retriever.bundle.manifest.metrics["index_recall@60"] == 1.0
    assert retriever.measured.means()["ndcg@10"] > 0.15  # chance is 0.09

    ranker = train(GBDT_RANKER, ranker_run, LOCAL, store)
    assert ranker.bundle.manifest.requires["retriever"] == retriever.bundle.reference
    assert isinstance(ranker.measured, MeasuredStages)
    assert ranker.measured.ranker.card == ranker.measured.retriever.card

    store.promote(ranker.bundle.manifest.name, 1)
    pipeline = Pipeline(open_served(store, ranker.bundle.manifest.name))
    answer = pipeline.recommend(RecommendRequest(user_id="u7", k=5))
    assert len(answer["items"]) == 5
    assert answer["version"]["ranker"]["digest"] == ranker.bundle.manifest.digest
    odd = [int(item["item_id"][1:]) % 2 for item in answer["items"]]
    assert sum(odd) >= 4  # user 7 likes odd items


def test_a_network_takes_the_place_of_the_trees(
    run: TwoTowerRun, ranker_run: GBDTRankerRun, store: Store
) -> None:
    train(TWO_TOWER, run, LOCAL, store)
    plain = DLRMRankerRun(data=ranker_run.data, candidates=ranker_run.candidates, negatives=0, holdout=0.3)
    ranker = train(DLRM_RANKER, override(plain, {"loop.epochs": 3}), LOCAL, store)
    assert ranker.bundle.manifest.model == "dlrm"
    answer = Pipeline(
        open_served(store, ranker.bundle.manifest.name, ranker.bundle.manifest.version)
    ).recommend(RecommendRequest(user_id="u7", k=5, explain=True))
    assert len(answer["items"]) == 5
    assert all(len(item["why"]) == 3 for item in answer["items"])
    with pytest.raises(ConfigError, match="a DLRM stops by users that it does not train on"):
        replace(plain, holdout=0.0)


def test_a_new_index_is_a_new_version_with_the_same_vectors(run: TwoTowerRun, store: Store) -> None:
    first = train(TWO_TOWER, run, LOCAL, store).bundle
    name = first.manifest.name
    second = reindex(name, "latest", IndexConfig(kind="hnsw"), store)
    assert second.manifest.parent == first.manifest.version
    assert second.manifest.metrics["index_recall@60"] > 0.95
    assert second.manifest.metrics["ndcg@10"] == first.manifest.metrics["ndcg@10"]
    np.testing.assert_array_equal(read_retriever(first).item_ID, read_retriever(second).item_ID)


def test_a_ranker_refuses_a_retriever_of_another_protocol(ranker_run: GBDTRankerRun) -> None:
    """Before anything is trained, though examples of the same retriever lie there already."""
    prepared = replace(ranker_run, retriever_version="1")
    GBDT_RANKER.open(prepared)
    other = replace(prepared, data=replace(ranker_run.data, split="random"))
    with pytest.raises(
        ConfigError, match=r"otherwise than is asked here: split leave-one-out, here random.*--data"
    ):
        GBDT_RANKER.open(other)
    with pytest.raises(ConfigError, match="no bundle 'nobody'"):
        GBDT_RANKER.open(replace(ranker_run, retriever="nobody"))


def test_compare_models_gives_rows_under_one_card(events: Path) -> None:
    rows = compare_models(
        DataConfig(dataset=str(events), split="leave-one-out"), ("popularity", "item_knn"), seeds=3
    )
    assert [row.model for row in rows] == ["popularity", "item_knn"]  # counting needs no seeds
    document = to_json(rows)
    assert document["card"]["split"] == "leave-one-out"
    assert set(document["rows"][1]["ndcg@10"]) == {"mean", "low", "high"}
    means = {row["model"]: row["ndcg@10"]["mean"] for row in document["rows"]}
    assert means["item_knn"] > means["popularity"]


def test_presets_are_complete_and_unknown_models_are_named(events: Path) -> None:
    assert set(RECIPES["two_tower"].presets) >= {"synthetic", "ml-100k", "ml-1m"}
    assert run_for(RECIPES["item_knn"], str(events)).data.dataset == str(events)
    with pytest.raises(ConfigError, match="no recipe for model 'two_towers', did you mean 'two_tower'"):
        RECIPES["two_towers"]


def test_column_names_go_behind_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["customer,product,at"] + [
        f"c{n % 7},p{n % 5},{1_600_000_000_000 + 60_000 * n}" for n in range(70)
    ]
    (tmp_path / "my clicks.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    data = DataConfig(dataset="my clicks.csv?user=customer&item=product&timestamp=at&time_unit=ms")
    assert data.dataset.startswith(str(tmp_path))  # workers have working directories of their own
    dataset = open_split(data).dataset
    assert (dataset.num_users, dataset.num_items, len(dataset)) == (7, 5, 70)
    assert dataset.timestamps_N[0] == 1_600_000_000
    assert re.fullmatch("my-clicks-[0-9a-f]{8}-ranker", bundle_name(dataset.name, "ranker"))
    with pytest.raises(ConfigError, match="no option 'usr' of this reader, did you mean 'user'"):
        open_split(DataConfig(dataset="my clicks.csv?usr=customer"))


@pytest.mark.ray
def test_a_relative_path_reaches_ray_workers(
    run: TwoTowerRun, events: Path, store: Store, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(events.parent)
    relative = replace(run, data=DataConfig(dataset=events.name), loop=LoopConfig(epochs=1))
    bundle = train(TWO_TOWER, relative, LaunchConfig(workers=1), store).bundle
    assert re.fullmatch("events-[0-9a-f]{8}-two_tower", bundle.manifest.name)
