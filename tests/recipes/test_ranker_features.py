"""A run that names its ranking features ends in a ranker that goes by these and is served with these."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from recray.config import ConfigError, override
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_for
from recray.recipes.ranker import GBDTRankerRun
from recray.schema import DataError
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store
from recray.train.context import LaunchConfig

LOCAL = LaunchConfig(where="local")
NAMES = ("retrieval_score", "genre_affinity", "item_events_30d")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECRAY_HOME", str(tmp_path_factory.mktemp("ranker-features")))
        run = override(run_for(RECIPES["two_tower"], "synthetic"), {"loop.epochs": 1, "index.kind": "exact"})
        train(RECIPES["two_tower"], run, LOCAL, Store())
        yield Store()


@pytest.mark.parametrize(
    ("kind", "brief"), [("gbdt_ranker", {"model.rounds": 3}), ("dlrm_ranker", {"loop.epochs": 1})]
)
def test_a_ranker_goes_by_the_features_that_its_run_names(
    kind: str, brief: dict[str, object], store: Store
) -> None:
    run = override(run_for(RECIPES[kind], "synthetic"), {"features": NAMES, **brief})
    bundle = train(RECIPES[kind], run, LOCAL, store).bundle.manifest
    pipeline = Pipeline(open_served(store, bundle.name, bundle.version))
    answer = pipeline.recommend(RecommendRequest(user_id="7", k=5, explain=True))
    assert [tuple(item["features"]) for item in answer["items"]] == [NAMES] * 5


def test_a_run_that_names_a_feature_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="no ranking feature 'genre_afinity', did you mean 'genre_affinity'"):
        replace(GBDTRankerRun(), features=("genre_afinity",))


def test_a_finished_run_is_no_ranker_for_another_retriever(store: Store) -> None:
    """A network that goes on from its checkpoint has learnt from the candidates of the retriever before."""
    named = LaunchConfig(where="local", run="named-ranker")
    run = override(run_for(RECIPES["dlrm_ranker"], "synthetic"), {"loop.epochs": 1, "features": NAMES})
    train(RECIPES["dlrm_ranker"], run, named, store)
    other = override(run_for(RECIPES["two_tower"], "synthetic"), {"loop.epochs": 1, "seed": 1})
    train(RECIPES["two_tower"], other, LOCAL, store)
    with pytest.raises(ConfigError, match="started on other data"):
        train(RECIPES["dlrm_ranker"], run, named, store)


def test_rows_without_sessions_teach_no_order(store: Store) -> None:
    run = run_for(RECIPES["dlrm"], "synthetic")
    with pytest.raises(ConfigError, match="has rows without sessions, so there is no order to learn"):
        RECIPES["lambdarank"].open(run)
