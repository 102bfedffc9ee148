"""A small application, published for real: two-tower vectors, an index, an event log and trees."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from recray import models
from recray.batch import Jagged, QueryBatch
from recray.bundles.ranker import write_ranker
from recray.bundles.retriever import RetrieverFiles, write_retriever
from recray.config import to_dict
from recray.features.candidates import CandidateConfig
from recray.features.items import item_features
from recray.features.log import EventLog
from recray.features.ranking import FEATURES, RankingQuery, compute
from recray.models.gbdt import GBDTConfig, GBDTRanker, RankingRows
from recray.models.two_tower import TwoTowerConfig
from recray.ops.ann import IndexConfig, build_index
from recray.schema import FeatureSchema
from recray.store import Bundle, Store

NUM_USERS, NUM_ITEMS, NUM_EVENTS, DIM = 40, 300, 2_000, 16
NOW = 1_700_000_000
CANDIDATES = CandidateConfig(retrieved=50, popular=10)
APPLICATION, RETRIEVER = "tiny-ranker", "tiny-two_tower"


@dataclass(frozen=True)
class World:
    """The data that every test application is built from."""

    log: EventLog
    users: pl.DataFrame
    items: pl.DataFrame
    counts_I: np.ndarray

    def seen(self, user: int) -> set[int]:
        return set(self.log.item_ids_N[self.log.user_ids_N == user].tolist())


def make_world() -> World:
    """Seeded: every call gives the same."""
    rng = np.random.default_rng(0)
    genres = [[["drama", "comedy", "war"][int(g)]] for g in rng.integers(0, 3, NUM_ITEMS)]
    items = pl.DataFrame(
        {
            "raw_id": [f"i{n}" for n in range(NUM_ITEMS)],
            "title": [f"Film {n}" for n in range(NUM_ITEMS)],
            "genres": genres,
            "year": rng.integers(1950, 2020, NUM_ITEMS),
        }
    )
    users = pl.DataFrame({"raw_id": [str(100 + n) for n in range(NUM_USERS)]})
    item_ids_N = np.minimum(rng.exponential(40, NUM_EVENTS).astype(np.int64), NUM_ITEMS - 1)
    log = EventLog(
        rng.integers(0, NUM_USERS, NUM_EVENTS),
        item_ids_N,
        rng.integers(1, 6, NUM_EVENTS).astype(np.float32),
        np.sort(rng.integers(NOW - 10**7, NOW, NUM_EVENTS)),
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
        items=item_features(items),
    )
    return World(log, users, items, np.bincount(item_ids_N, minlength=NUM_ITEMS))


def publish_retriever(
    store: Store, world: World, seed: int = 0, *, name: str = RETRIEVER, user_vectors: bool = True
) -> Bundle:
    config, schema = (
        TwoTowerConfig(embedding_dim=DIM),
        FeatureSchema(num_users=NUM_USERS, num_items=NUM_ITEMS),
    )
    torch.manual_seed(seed)
    model = models.build("two_tower", config, schema).eval()
    empty = Jagged(torch.empty(0, dtype=torch.int64), torch.zeros(NUM_USERS + 1, dtype=torch.int64))
    everybody = QueryBatch(torch.arange(NUM_USERS), empty, empty.values_N, torch.zeros(NUM_USERS))
    item_ID = model.item_vectors().numpy()
    files = RetrieverFiles(
        users=world.users,
        items=world.items,
        item_counts_I=world.counts_I,
        item_ID=item_ID,
        user_UD=model.query_vectors(everybody).numpy() if user_vectors else None,
        index=build_index(item_ID, IndexConfig(kind="hnsw")),
    )
    return store.publish(
        name,
        lambda folder: write_retriever(folder, model, files),
        model="two_tower",
        config=to_dict(config),
        schema=schema,
    )


def publish_ranker(
    store: Store, world: World, retriever: Bundle, seed: int = 0, names: Sequence[str] = tuple(FEATURES)
) -> Bundle:
    config = GBDTConfig(rounds=10, max_depth=3, seed=seed)
    ranker = GBDTRanker.fit(config, ranking_rows(world, seed, names), names)
    return store.publish(
        APPLICATION,
        lambda folder: write_ranker(folder, "gbdt", ranker, world.log, CANDIDATES),
        model="gbdt",
        config=to_dict(config),
        requires={"retriever": retriever.reference},
    )


def ranking_rows(world: World, seed: int, names: Sequence[str] = tuple(FEATURES)) -> RankingRows:
    rng = np.random.default_rng(seed)
    features, labels = [], []
    for user in range(NUM_USERS):
        ids_K = rng.permutation(NUM_ITEMS)[:30]
        query = RankingQuery(
            user, NOW, ids_K, rng.random(30, dtype=np.float32), rng.integers(1, 4, 30).astype(np.uint8)
        )
        features.append(compute(world.log, query, names))
        labels.append((rng.random(30) < world.counts_I[ids_K] / 20).astype(np.float32))
    query_ids_N = np.repeat(np.arange(NUM_USERS), 30)
    return RankingRows(np.concatenate(features), np.concatenate(labels), query_ids_N)
