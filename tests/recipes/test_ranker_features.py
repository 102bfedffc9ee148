"""A run that names its ranking features ends in a ranker that goes by these and is served with these."""

from dataclasses import replace

import pytest

from recray.config import override
from recray.launch.stages import train_ranker, train_retriever
from recray.ops.ann import IndexConfig
from recray.recipes import preset
from recray.recipes.ranking import RankerRun
from recray.schema import DataError
from recray.serve.pipeline import Pipeline, open_served
from recray.serve.requests import RecommendRequest
from recray.store import Store
from recray.train.context import LaunchConfig

LOCAL = LaunchConfig(where="local")
NAMES = ("retrieval_score", "genre_affinity", "item_events_30d")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("ranker-features"))
    run = override(preset("two_tower", "synthetic"), {"loop.epochs": 1})
    train_retriever(run, LOCAL, IndexConfig(kind="exact"), store)
    return store


@pytest.mark.parametrize("kind", ["gbdt", "dlrm"])
def test_a_ranker_goes_by_the_features_that_its_run_names(kind: str, store: Store) -> None:
    run = override(RankerRun(features=NAMES), {"ranker": kind, "gbdt.rounds": 3, "loop.epochs": 1})
    trained = train_ranker(run, LOCAL, store)
    bundle = trained.bundle.manifest
    pipeline = Pipeline(open_served(store, bundle.name, bundle.version))
    answer = pipeline.recommend(RecommendRequest(user_id="7", k=5, explain=True))
    assert [tuple(item["features"]) for item in answer["items"]] == [NAMES] * 5


def test_a_run_that_names_a_feature_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="no ranking feature 'genre_afinity', did you mean 'genre_affinity'"):
        replace(RankerRun(), features=("genre_afinity",))
