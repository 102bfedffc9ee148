"""A published ranker names the features that it wants, and no other feature is any business of its."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recray.bundles.ranker import RANKERS, load_ranker, read_ranker, write_ranker
from recray.features.ranking import FEATURES, RankingFeature
from recray.models.dlrm import DLRM, DLRMConfig
from recray.models.dlrm_ranker import DLRMRanker, ranker_schema
from recray.models.gbdt import GBDTConfig, GBDTRanker
from recray.schema import DataError
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store
from tests.serve.world import (
    APPLICATION,
    CANDIDATES,
    NOW,
    NUM_ITEMS,
    World,
    make_world,
    publish_ranker,
    publish_retriever,
    ranking_rows,
)

# Not in the order of the registry.
FIVE = ("retrieval_score", "item_events_30d", "genre_affinity", "user_events", "item_mean_rating")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


@pytest.fixture(scope="module")
def store(world: World, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Version 1 wants all features, version 2 wants five."""
    store = Store(tmp_path_factory.mktemp("named-features"))
    retriever = publish_retriever(store, world)
    publish_ranker(store, world, retriever)
    publish_ranker(store, world, retriever, names=FIVE)
    return store


def answers(store: Store, version: int) -> list[Any]:
    """Items, scores, features and reasons of a few users, as a replica gives them."""
    pipeline = Pipeline(open_served(store, APPLICATION, version))
    asked = [{"user_id": user} for user in (100, 103, "nobody")] + [{"history": ["i3", "i9"]}]
    requests = [RecommendRequest(**fields, k=8, request_time=NOW, explain=True) for fields in asked]
    return [pipeline.recommend(request)["items"] for request in requests]


@pytest.fixture
def registry() -> Iterator[dict[str, Any]]:
    """The features, to be changed: put back after the test, in their order."""
    before = dict(FEATURES)
    yield FEATURES
    FEATURES.clear()
    FEATURES.update(before)


THREE = RankingFeature("three", "context", "threes", "Three for everybody.", lambda known: 3.0)


def test_more_features_and_fewer_change_nothing_for_a_ranker_that_does_not_want_them(
    store: Store, registry: dict[str, Any]
) -> None:
    before = {version: answers(store, version) for version in (1, 2)}
    assert list(before[1][0][0]["features"]) == list(FEATURES)
    assert list(before[2][0][0]["features"]) == list(FIVE)
    assert {reason["feature"] for item in before[2][0] for reason in item["why"]} <= set(FIVE)
    registry["three"] = THREE
    assert repr(answers(store, 1)) == repr(before[1])  # a missing feature is NaN, which equals nothing
    del registry["day_of_week"]
    assert repr(answers(store, 2)) == repr(before[2])


def test_a_feature_that_is_gone_is_named_in_one_sentence(store: Store, registry: dict[str, Any]) -> None:
    ranker = store.open(APPLICATION, 2)
    for name in ("item_events_30d", "user_events"):
        del registry[name]
    with pytest.raises(
        DataError,
        match=r"ranker\.ubj: the ranker wants features that this code does not know "
        r"\(item_events_30d, user_events\): serve it with",
    ):
        read_ranker(ranker)
    with pytest.raises(DataError, match="does not know"):
        Pipeline(open_served(store, APPLICATION, 2))


def dlrm_of(names: tuple[str, ...]) -> DLRMRanker:
    config = DLRMConfig(embedding_dim=4, bottom=(8,), top=(8,), loss="lambdarank")
    schema = ranker_schema(names, NUM_ITEMS)
    return DLRMRanker(DLRM(config, schema, seed=1), config, schema)


def trees_of(names: tuple[str, ...]) -> GBDTRanker:
    return GBDTRanker.fit(GBDTConfig(rounds=3), ranking_rows(make_world(), 0, names), names)


@pytest.mark.parametrize(("model", "make"), [("gbdt", trees_of), ("dlrm", dlrm_of)])
def test_every_ranker_says_what_it_wants_and_learns_from_features_of_tomorrow(
    model: str, make: Callable[[tuple[str, ...]], Any], tmp_path: Path, registry: dict[str, Any]
) -> None:
    """Trained where there is one more feature, and loaded there; refused where there is not."""
    path = tmp_path / RANKERS[model]
    registry["three"] = THREE
    make(("three", *FIVE)).save(path)
    assert load_ranker(model, path).feature_names == ("three", *FIVE)
    del registry["three"]
    with pytest.raises(DataError, match=r"does not know \(three\)"):
        load_ranker(model, path)


def test_a_dlrm_of_five_features_serves(world: World, store: Store) -> None:
    ranker = dlrm_of(FIVE)
    bundle = store.publish(
        "five",
        lambda folder: write_ranker(folder, "dlrm", ranker, world.log, CANDIDATES),
        model="dlrm",
        config={},
        requires={"retriever": store.open("tiny-two_tower", 1).reference},
    )
    pipeline = Pipeline(open_served(store, "five", bundle.reference.version))
    request = RecommendRequest(user_id=104, k=5, request_time=NOW, explain=True)
    for item in pipeline.recommend(request)["items"]:
        assert tuple(item["features"]) == FIVE
        assert np.isfinite(item["score"])
