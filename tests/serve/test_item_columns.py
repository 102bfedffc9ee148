"""What a shop's table of items says reaches the answer: availability, what is shown, features, cold items."""

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recray import models
from recray.batch import FeatureTables, Jagged, QueryBatch
from recray.bundles.ranker import read_ranker
from recray.bundles.retriever import RetrieverFiles, write_retriever
from recray.config import ConfigError, to_dict
from recray.data.sources.tables.side_types import type_of, typed
from recray.features.items import item_features
from recray.features.ranking import FEATURES, RankingQuery, chosen, compute
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.ops.ann import IndexConfig, build_index
from recray.schema import Feature, FeatureSchema
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.rules.available import AvailableConfig
from recray.serve.rules.listed import Rules
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import open_served
from recray.store import Bundle, Store
from tests.serve.generative_world import DECODER, publish_decoder
from tests.serve.world import (
    APPLICATION,
    NOW,
    NUM_ITEMS,
    NUM_USERS,
    RETRIEVER,
    World,
    make_world,
    publish_ranker,
    publish_retriever,
)

ALL = Rules(available=AvailableConfig(enforced=False))
USERS = (100, 107, 120, "nobody")


def shop_world() -> World:
    """The items of ``world`` with the columns of a shop; every third one is sold out, one says nothing."""
    world = make_world()
    rng = np.random.default_rng(1)
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(int(n)) for n in rng.integers(0, 2000, NUM_ITEMS)]
    stock = pl.Series("in_stock", [None, *("yes" if n % 3 else "no" for n in range(1, NUM_ITEMS))])
    items = world.items.with_columns(
        typed(stock, type_of(stock)).values,
        pl.Series("units", [None, *((3.0 * n) if n % 3 else 0.0 for n in range(1, NUM_ITEMS))]),
        pl.Series("category", [["Books", f"Books > {n % 5}"] for n in range(NUM_ITEMS)]),
        pl.Series("brand", [f"b{n}" for n in rng.integers(0, 90, NUM_ITEMS)]),
        pl.Series("price", rng.lognormal(3, 1, NUM_ITEMS)),
        pl.Series("created_at", days),
    )
    world.log.items = item_features(items)
    world.log.columns = world.log.items.columns()
    return replace(world, items=items)


@pytest.fixture(scope="module")
def world() -> World:
    return shop_world()


@pytest.fixture(scope="module")
def store(world: World, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("shop"))
    names = chosen((), world.log.columns)
    publish_ranker(store, world, publish_retriever(store, world), names=names)
    publish_decoder(store, world)
    return store


def shown(pipeline: Pipeline, user: int | str, k: int = 40, **fields: Any) -> list[Any]:
    request = RecommendRequest(user_id=user, k=k, request_time=NOW, **fields)
    return list(pipeline.recommend(request)["items"])


def rows(items: list[Any]) -> list[int]:
    return [int(item["item_id"][1:]) for item in items]


@pytest.mark.parametrize("application", [APPLICATION, RETRIEVER, DECODER])
def test_what_is_sold_out_is_never_served_and_the_rest_keeps_its_order(
    store: Store, application: str
) -> None:
    bundles = open_served(store, application, 1)
    ruled, free = Pipeline(bundles), Pipeline(bundles, StagesConfig(rules=ALL))
    for user in USERS:
        history = ["i4", "i8"] if application == DECODER else None
        found = rows(shown(ruled, user, k=20, history=history))
        everything = rows(shown(free, user, history=history))
        left = [n for n in everything if n % 3 or n == 0]
        assert len(left) < len(everything) == 40
        assert len(found) == 20
        assert all(n % 3 or n == 0 for n in found)
        if application != APPLICATION:  # whose candidates are others: the popular ones are all to be had
            assert found[: len(left)] == left[:20]
    for item_id in ("i4", "i6"):  # the second one is sold out itself
        near = [int(item["item_id"][1:]) for item in ruled.similar(item_id, 30)["items"]]
        assert len(near) == 30
        assert all(n % 3 or n == 0 for n in near)
        assert any(n % 3 == 0 for n in (int(i["item_id"][1:]) for i in free.similar(item_id, 30)["items"]))


def test_a_count_says_it_too(store: Store) -> None:
    bundles = open_served(store, APPLICATION, 1)
    counted = Pipeline(bundles, StagesConfig(rules=Rules(available=AvailableConfig(column="units"))))
    for user in USERS:
        assert rows(shown(counted, user, k=20)) == rows(shown(Pipeline(bundles), user, k=20))


def test_another_column_may_say_it_and_one_that_cannot_is_refused(store: Store) -> None:
    bundles = open_served(store, APPLICATION, 1)
    for column, message in (
        ("brand", "'brand' of its items that is Boolean or a count.*brand \\(String\\)"),
        ("nope", "'nope'"),
    ):
        rules = Rules(available=AvailableConfig(column=column))
        with pytest.raises(ConfigError, match=message):
            Pipeline(bundles, StagesConfig(rules=rules))


def test_category_and_price_are_shown_or_the_columns_that_are_named(store: Store, world: World) -> None:
    bundles = open_served(store, APPLICATION, 1)
    first = shown(Pipeline(bundles), 100)[0]
    row = world.items.row(rows([first])[0], named=True)
    assert first["title"] == row["title"]
    assert first["details"] == {"category": row["category"], "price": row["price"]}
    named = Pipeline(bundles, shown=("brand", "created_at"))
    assert shown(named, 100)[0]["details"] == {"brand": row["brand"], "created_at": row["created_at"]}
    assert set(named.similar("i4", 3)["items"][0]["details"]) == {"brand", "created_at"}
    with pytest.raises(ConfigError, match="no column 'brnad', did you mean 'brand'"):
        Pipeline(bundles, shown=("brnad",))


def test_a_catalogue_without_such_columns_shows_titles_alone(tmp_path: Path) -> None:
    store, plain = Store(tmp_path), make_world()
    publish_ranker(store, plain, publish_retriever(store, plain))
    assert "details" not in shown(Pipeline(open_served(store, APPLICATION, 1)), 100)[0]


def test_a_ranker_is_served_with_the_features_of_its_columns(store: Store, world: World) -> None:
    ranker = store.open(APPLICATION, 1)
    names = read_ranker(ranker).feature_names
    assert {"brand_affinity", "category_overlap_last", "item_price", "price_vs_user"} < {*names} - {*FEATURES}
    answer = Pipeline(open_served(store, APPLICATION, 1)).recommend(
        RecommendRequest(user_id=103, k=10, request_time=NOW, explain=True)
    )
    candidates = answer["candidates"]
    query = RankingQuery(
        3,
        NOW,
        np.array([int(item[1:]) for item in candidates["item_ids"]]),
        np.array(candidates["retrieval_scores"], np.float32),
        np.array(candidates["sources"], np.uint8),
        known_until=world.log.end,
    )
    offline_KF = compute(world.log, query, names)
    row_of = {item: row for row, item in enumerate(candidates["item_ids"])}
    for item in answer["items"]:
        live = np.array(list(item["features"].values()), np.float32)
        assert live.tobytes() == offline_KF[row_of[item["item_id"]]].tobytes()


COLD = (NUM_ITEMS, NUM_ITEMS + 1)  # one that says it is a drama, and one that says nothing


def publish_with_cold_items(store: Store, world: World) -> Bundle:
    """Trained by nobody: dramas have a vector of their own, which the cold one shares."""
    genres = [row[0] for row in world.items["genres"].to_list()] + ["drama", None]
    items = pl.DataFrame({"raw_id": [f"i{n}" for n in range(NUM_ITEMS + 2)], "category": genres})
    ids = torch.tensor([[0 if g is None else 1 + ["drama", "comedy", "war"].index(g)] for g in genres])
    schema = FeatureSchema(
        num_users=NUM_USERS,
        num_items=len(items),
        item=(Feature(name="category", kind="ids", size=4, width=1),),
    )
    torch.manual_seed(0)
    config = TwoTowerConfig(embedding_dim=16)
    model = models.build("two_tower", config, schema).eval()
    assert isinstance(model, TwoTower)
    model.set_side_features(FeatureTables({}, {"category": ids}))
    model.item_tower.initialise(1.0)  # as if learnt: what an item says counts more than who it is
    model.forget_items(torch.tensor(COLD))
    item_ID = model.item_vectors().numpy()
    users_U = torch.arange(NUM_USERS)
    nothing = Jagged(torch.empty(0, dtype=torch.int64), torch.zeros(NUM_USERS + 1, dtype=torch.int64))
    files = RetrieverFiles(
        users=world.users,
        items=items,
        item_counts_I=np.pad(world.counts_I, (0, 2)),
        item_ID=item_ID,
        user_UD=model.query_vectors(
            QueryBatch(users_U, nothing, nothing.values_N, torch.zeros(NUM_USERS))
        ).numpy(),
        index=build_index(item_ID, IndexConfig(kind="exact")),
    )
    return store.publish(
        "cold",
        lambda folder: write_retriever(folder, model, files),
        model="two_tower",
        config=to_dict(config),
        schema=schema,
    )


def test_cold_items_are_found_by_what_they_say_and_never_by_chance(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish_with_cold_items(store, make_world())
    pipeline = Pipeline(open_served(store, "cold", 1))
    says, silent = (f"i{n}" for n in COLD)
    near = [item["item_id"] for item in pipeline.similar(says, 20)["items"]]
    genres = [*make_world().items["genres"].to_list()]
    assert {genres[int(item[1:])][0] for item in near} == {"drama"}
    assert pipeline.similar(silent, 20)["items"] == []
    found = [shown(pipeline, user, k=200) for user in range(100, 100 + NUM_USERS)]
    ids = {item["item_id"] for items in found for item in items}
    assert says in ids
    assert silent not in ids
    # Who comes with nothing but an item that says nothing is shown what is popular.
    stranger = pipeline.recommend(RecommendRequest(history=[silent], k=5, request_time=NOW))
    assert stranger["fallback"] == "popular"
