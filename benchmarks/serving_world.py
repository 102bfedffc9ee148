"""The application that the serving benchmark asks: 62,000 items, published through the real store.

Vectors lie in clusters (genres) as trained ones do, popularity is skewed, and the trees are fitted to
planted relevance, so that search, features and ranking all do the work that they do in production.
"""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recray import models
from recray.arrays import Float32s, Float64s, Int64s
from recray.bundles.ranker import write_ranker
from recray.bundles.retriever import RetrieverFiles, write_retriever
from recray.config import to_dict
from recray.features.candidates import CandidateConfig, SearchQuery, gather, popular_first
from recray.features.items import item_features
from recray.features.log import EventLog
from recray.features.ranking import FEATURES, RankingQuery, compute
from recray.models.gbdt import GBDTConfig, GBDTRanker, RankingRows
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.ops.ann import IndexConfig, build_index
from recray.schema import FeatureSchema
from recray.store import Store

log = logging.getLogger(__name__)

APPLICATION, RETRIEVER = "bench-ranker", "bench-two_tower"
NOW = 1_700_000_000  # unix seconds, after the last event
CANDIDATES = CandidateConfig(retrieved=200, popular=50)


@dataclass(frozen=True, kw_only=True)
class WorldSize:
    """How large the application is."""

    num_items: int = 62_000
    num_users: int = 20_000
    num_events: int = 500_000
    dim: int = 64
    num_genres: int = 20
    train_queries: int = 400
    trees: int = 100
    depth: int = 6


@dataclass(frozen=True)
class World:
    """Who did what, and the vectors of both sides."""

    log: EventLog
    users: pl.DataFrame
    items: pl.DataFrame
    item_counts_I: Int64s
    user_UD: Float32s
    item_ID: Float32s


def publish_world(root: Path, size: WorldSize) -> None:
    """Publishes retriever and ranker and points production at them."""
    began = time.perf_counter()
    world = make_world(size)
    store = Store(root)
    files = RetrieverFiles(
        users=world.users,
        items=world.items,
        item_counts_I=world.item_counts_I,
        item_ID=world.item_ID,
        user_UD=world.user_UD,
        index=build_index(world.item_ID, IndexConfig(kind="hnsw", hnsw_ef_construction=100)),
    )
    log.info("index over %d items built, %.0f s", size.num_items, time.perf_counter() - began)
    config = TwoTowerConfig(embedding_dim=size.dim)
    schema = FeatureSchema(num_users=size.num_users, num_items=size.num_items)
    retriever = store.publish(
        RETRIEVER,
        lambda folder: write_retriever(folder, _model(world, config, schema), files),
        model="two_tower",
        config=to_dict(config),
        schema=schema,
    )
    trees = GBDTConfig(rounds=size.trees, max_depth=size.depth, num_threads=2)
    ranker = GBDTRanker.fit(trees, _ranking_rows(world, files, size), tuple(FEATURES))
    store.publish(
        APPLICATION,
        lambda folder: write_ranker(folder, "gbdt", ranker, world.log, CANDIDATES),
        model="gbdt",
        config=to_dict(trees),
        requires={"retriever": retriever.reference},
    )
    store.promote(APPLICATION, 1)
    log.info("published, %.0f s", time.perf_counter() - began)


def make_world(size: WorldSize) -> World:
    """Seeded: every call gives the same."""
    rng = np.random.default_rng(0)
    genre_I = rng.integers(0, size.num_genres, size.num_items)
    centre_GD = rng.normal(size=(size.num_genres, size.dim))
    item_ID = centre_GD[genre_I] + 0.7 * rng.normal(size=(size.num_items, size.dim))
    user_UD = centre_GD[rng.integers(0, size.num_genres, size.num_users)]
    user_UD = user_UD + 0.7 * rng.normal(size=(size.num_users, size.dim))
    items = pl.DataFrame(
        {
            "raw_id": [f"i{n}" for n in range(size.num_items)],
            "title": [f"Item number {n}" for n in range(size.num_items)],
            "genres": [[f"genre{g}"] for g in genre_I],
            "year": rng.integers(1950, 2023, size.num_items),
        }
    )
    # Zipf-like popularity over a random order of the items.
    draws_N = (size.num_items * rng.random(size.num_events) ** 3).astype(np.int64)
    item_ids_N = rng.permutation(size.num_items)[draws_N]
    event_log = EventLog(
        rng.integers(0, size.num_users, size.num_events),
        item_ids_N,
        rng.integers(1, 6, size.num_events).astype(np.float32),
        np.sort(rng.integers(NOW - 3 * 10**7, NOW, size.num_events)),
        num_users=size.num_users,
        num_items=size.num_items,
        items=item_features(items),
    )
    return World(
        event_log,
        pl.DataFrame({"raw_id": [str(n) for n in range(size.num_users)]}),
        items,
        np.bincount(item_ids_N, minlength=size.num_items),
        _unit(user_UD),
        _unit(item_ID),
    )


def _unit(vectors_ND: Float64s) -> Float32s:
    norms_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND: Float32s = (vectors_ND / norms_N).astype(np.float32)
    return unit_ND


def _model(world: World, config: TwoTowerConfig, schema: FeatureSchema) -> TwoTower:
    """A two-tower model whose towers give exactly these vectors."""
    model = models.build("two_tower", config, schema)
    assert isinstance(model, TwoTower)
    with torch.no_grad():
        model.user_tower.ids.all_rows().copy_(torch.from_numpy(world.user_UD))
        model.item_tower.ids.all_rows().copy_(torch.from_numpy(world.item_ID))
    return model.eval()


def _ranking_rows(world: World, files: RetrieverFiles, size: WorldSize) -> RankingRows:
    """Candidates of some users, relevant with a chance that grows with score and popularity."""
    rng = np.random.default_rng(1)
    popular_first_I, index = popular_first(world.item_counts_I), files.index
    assert index is not None
    features, labels, query_ids = [], [], []
    for query, user in enumerate(rng.integers(0, size.num_users, size.train_queries).tolist()):
        found = gather(
            SearchQuery(
                lambda query_BD, k: index.search(query_BD, k).item_ids_BK, world.user_UD[user], world.item_ID
            ),
            popular_first_I,
            world.log.seen_before(user, NOW).astype(np.int64),
            CANDIDATES,
        )
        features.append(compute(world.log, RankingQuery(user, NOW, *found), tuple(FEATURES)))
        taste_K = 3 * found.scores_K + np.log1p(world.item_counts_I[found.item_ids_K])
        labels.append((rng.random(len(taste_K)) < 0.1 * taste_K / taste_K.mean()).astype(np.float32))
        query_ids.append(np.full(len(taste_K), query))
    return RankingRows(np.concatenate(features), np.concatenate(labels), np.concatenate(query_ids))


def write_bodies(path: Path, size: WorldSize) -> None:
    """What is asked, as JSON: ten items for each of some users."""
    users = [(7919 * n) % size.num_users for n in range(5_000)]
    path.write_text(json.dumps([{"user_id": str(user), "k": 10} for user in users]))
