"""A shop whose retriever reads what items say of themselves, published for real: new ones can be told of."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import torch

from recray import models
from recray.bundles.index import user_vectors
from recray.bundles.retriever import RetrieverFiles, write_retriever
from recray.data.events.side_features import encode_side_features
from recray.features.items import item_features
from recray.features.ranking import chosen
from recray.ops.ann import IndexConfig, build_index
from recray.store import Bundle, Store
from tests.serve.world import NUM_ITEMS, RETRIEVER, World, make_world, publish_ranker

CONFIG = {"embedding_dim": 16}
KINDS = ("books", "music", "games", "garden")


def shop() -> World:
    """The log of ``world`` over items with categories, prices and dates."""
    world = make_world()
    rng = np.random.default_rng(1)
    items = pl.DataFrame(
        {
            "raw_id": [f"i{n}" for n in range(NUM_ITEMS)],
            "title": [f"{('old', 'new', 'red')[n % 3]} thing {n}" for n in range(NUM_ITEMS)],
            "category": [KINDS[int(n)] for n in rng.integers(0, len(KINDS), NUM_ITEMS)],
            "tags": [rng.choice(["a", "b", "c"], n % 3, replace=False).tolist() for n in range(NUM_ITEMS)],
            "price": rng.lognormal(3, 1, NUM_ITEMS),
            "pages": rng.integers(1, 9, NUM_ITEMS).astype(np.int16),
            "in_stock": [n % 10 > 0 for n in range(NUM_ITEMS)],
            "made": pl.Series(rng.integers(18_000, 19_000, NUM_ITEMS).astype(np.int32)).cast(pl.Date),
        },
        schema_overrides={"tags": pl.List(pl.String)},
    )
    world.log.items = item_features(items)
    world.log.columns = world.log.items.columns()
    return replace(world, items=items)


def publish_shop(store: Store, world: World, seed: int = 0, name: str = RETRIEVER) -> tuple[Bundle, Bundle]:
    """A two-tower to which categories matter, and a ranker of its candidates by all features."""
    dataset: Any = SimpleNamespace(
        users=world.users, items=world.items, num_users=len(world.users), num_items=len(world.items)
    )
    schema, tables = encode_side_features(dataset)
    torch.manual_seed(seed)
    model: Any = models.build("two_tower", CONFIG, schema).eval()
    model.set_side_features(tables)
    with torch.no_grad():
        model.item_tower.tables["category"].weight.mul_(30)  # as if learnt
        # Each user likes a category: its vector is what the items of it have in common.
        liked_U = torch.arange(len(world.users)) % len(KINDS) + 1
        model.user_tower.ids.weight.copy_(model.item_tower.tables["category"].weight[liked_U])
    model.forget_items(torch.from_numpy(np.flatnonzero(world.counts_I == 0)))
    item_ID = model.item_vectors().numpy()
    files = RetrieverFiles(
        users=world.users,
        items=world.items,
        item_counts_I=world.counts_I,
        item_ID=item_ID,
        user_UD=user_vectors(model, len(world.users)),
        index=build_index(item_ID, IndexConfig(kind="hnsw")),
        log=world.log,
    )
    retriever = store.publish(
        name,
        lambda folder: write_retriever(folder, model, files),
        model="two_tower",
        config=CONFIG,
        schema=schema,
    )
    return retriever, publish_ranker(store, world, retriever, seed, chosen((), world.log.columns))


def liked_by(user: int) -> str:
    """The category that a user's vector stands for: labels are numbered by name."""
    return sorted(KINDS)[user % len(KINDS)]
