"""A DLRM in the place of the trees: the same application, by the model of its bundle."""

from pathlib import Path

import numpy as np
import pytest

from recray.bundles.ranker import read_ranker, write_ranker
from recray.features.ranking import FEATURES
from recray.models.dlrm import DLRM, DLRMConfig
from recray.models.dlrm_ranker import DLRMRanker, ranker_schema
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store
from recray.store.manifest import StoreError
from tests.serve.world import APPLICATION, CANDIDATES, NOW, NUM_ITEMS, World, make_world, publish_retriever


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


@pytest.fixture(scope="module")
def store(world: World, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("dlrm-store"))
    config = DLRMConfig(embedding_dim=4, bottom=(8,), top=(8,), loss="lambdarank")
    schema = ranker_schema(tuple(FEATURES), NUM_ITEMS)
    ranker = DLRMRanker(DLRM(config, schema, seed=1), config, schema)
    retriever = publish_retriever(store, world)
    for model in ("dlrm", "mystery"):
        store.publish(
            APPLICATION,
            lambda folder: write_ranker(folder, "dlrm", ranker, world.log, CANDIDATES),
            model=model,
            config={},
            requires={"retriever": retriever.reference},
        )
    return store


def test_answers_are_in_the_order_of_the_network(store: Store) -> None:
    bundles = open_served(store, APPLICATION, 1)
    answer = Pipeline(bundles).recommend(RecommendRequest(user_id=103, k=5, request_time=NOW, explain=True))
    assert bundles.ranker is not None
    told = answer["candidates"]
    ranker = read_ranker(bundles.ranker)
    for item in answer["items"]:
        features_KF = np.array([list(item["features"].values())], np.float32)
        score_K = ranker.score(features_KF, np.array([int(item["item_id"][1:])]))
        assert item["score"] == pytest.approx(float(score_K[0]), abs=1e-5)
        assert item["item_id"] in told["item_ids"]
        assert len(item["why"]) == 3
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)


def test_a_ranker_of_an_unknown_make_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="is a 'mystery', no ranker; valid: dlrm, gbdt"):
        Pipeline(open_served(store, APPLICATION, 2))


def test_the_bundle_holds_one_ranker_file(store: Store) -> None:
    folder = Path(store.open(APPLICATION, 1).folder)
    assert [path.name for path in folder.glob("ranker.*")] == ["ranker.safetensors"]
