"""A new item's vector is the one that training's export would give a cold item that says the same."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recray import models
from recray.batch import Jagged, QueryBatch
from recray.bundles.likeness import MOST_ALIKE, Likeness
from recray.bundles.newcomers import Grown, Newcomers, Told
from recray.bundles.retriever import RetrieverFiles
from recray.contract import ForgetsItems, ReadsSideFeatures
from recray.data.content.terms import terms_of
from recray.data.events.side_features import encode_side_features
from recray.ops.ann import IndexConfig, build_index
from recray.schema import FeatureSchema

NUM_USERS, NUM_ITEMS = 7, 60  # the last two of the items are cold
COLD = NUM_ITEMS - 2
SIDES: dict[str, dict[str, Any]] = {
    "two_tower": {"embedding_dim": 8, "hidden_dims": [12]},
    "gat": {"embedding_dim": 8, "heads": 2},
    "sasrec": {"dim": 8, "num_heads": 2, "hidden_dim": 8, "num_layers": 1, "side_features": True},
    "ss4rec": {"dim": 8, "channels": 8, "num_blocks": 1, "side_features": True},
}
BARE: dict[str, dict[str, Any]] = {
    "two_tower": {"embedding_dim": 8, "side_features": False},
    "gat": {"embedding_dim": 8, "heads": 2, "side_features": False},
    "sasrec": {"dim": 8, "num_heads": 2, "hidden_dim": 8, "num_layers": 1},
}


def catalogue() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "raw_id": [f"i{n}" for n in range(NUM_ITEMS)],
            "title": [f"the {a} {b}" for a, b in rng.choice(["red", "blue", "sea", "fog"], (NUM_ITEMS, 2))],
            "genres": [
                rng.choice(["war", "drama", "noir"], 1 + n % 2, replace=False) for n in range(NUM_ITEMS)
            ],
            "year": rng.integers(1950, 1960, NUM_ITEMS),
            "shelf": [None if n == COLD else n % 5 for n in range(NUM_ITEMS)],
        },
        schema_overrides={"genres": pl.List(pl.String)},
    )


def published(
    name: str, config: dict[str, Any], num_items: int = COLD
) -> tuple[Newcomers, RetrieverFiles, Any]:
    """A retriever of the first items as a bundle holds it, and the model of all of them from training."""
    items = catalogue()
    dataset: Any = SimpleNamespace(
        users=pl.DataFrame({"raw_id": list("abcdefg")}), items=items, num_users=NUM_USERS, num_items=NUM_ITEMS
    )
    schema, tables = encode_side_features(dataset)
    torch.manual_seed(0)
    whole: Any = models.build(name, config, schema).eval()
    if isinstance(whole, ReadsSideFeatures):
        whole.set_side_features(tables)
    if hasattr(whole, "item_ID"):
        whole.item_ID.copy_(torch.nn.functional.normalize(torch.randn_like(whole.item_ID), dim=1))
    if isinstance(whole, ForgetsItems):
        whole.forget_items(torch.arange(num_items, NUM_ITEMS))
    part: Any = models.build(name, config, replace(schema, num_items=num_items)).eval()
    state = {n: t[: part.state_dict()[n].shape[0]] if t.ndim else t for n, t in whole.state_dict().items()}
    part.load_state_dict(state)
    item_ID = part.item_vectors().numpy().copy()
    files = RetrieverFiles(
        users=dataset.users,
        items=items.head(num_items),
        item_counts_I=np.ones(num_items, np.int64),
        item_ID=item_ID,
        user_UD=None,
        index=build_index(item_ID, IndexConfig(kind="exact")),
    )
    manifest: Any = SimpleNamespace(
        model=name, config=config, schema=replace(schema, num_items=num_items), reference="a version"
    )
    return Newcomers(manifest, files, part), files, whole


def told(items: pl.DataFrame, rows: list[int]) -> Told:
    return Told(items, np.array(rows), items[rows])


@pytest.mark.parametrize("name", SIDES)
def test_the_vector_of_a_new_item_is_that_of_training(name: str) -> None:
    newcomers, files, whole = published(name, SIDES[name])
    grown = newcomers.grown(told(catalogue(), [COLD, COLD + 1]))
    expected_ID = whole.item_vectors().numpy()
    assert grown.files.item_ID is not None
    np.testing.assert_array_equal(grown.files.item_ID[COLD:], expected_ID[COLD:])
    assert files.item_ID is not None
    np.testing.assert_array_equal(grown.files.item_ID[:COLD], files.item_ID)
    assert expected_ID[COLD:].any(axis=1).all()
    assert grown.files.item_counts_I.tolist() == [1] * COLD + [0, 0]
    # In a history too it is read as training would have read it.
    query = query_of([3, COLD, 5])
    np.testing.assert_array_equal(grown.model.query_vectors(query), whole.query_vectors(query))  # type: ignore[operator]


def query_of(history: list[int]) -> QueryBatch:
    items = Jagged.from_rows([history])
    return QueryBatch(torch.tensor([-1]), items, torch.arange(len(history)), torch.tensor([100]))


def test_the_model_of_the_bundle_stays_as_it_is_and_shares_what_is_of_no_item() -> None:
    newcomers, _, _ = published("two_tower", SIDES["two_tower"])
    before = {name: tensor.clone() for name, tensor in newcomers._model.state_dict().items()}
    grown = newcomers.grown(told(catalogue(), [COLD]))
    for name, tensor in newcomers._model.state_dict().items():
        assert torch.equal(tensor, before[name])
    ours, theirs = newcomers._model.state_dict(), grown.model.state_dict()
    shared = {name for name in ours if ours[name].data_ptr() == theirs[name].data_ptr()}
    assert {name for name in ours if name.startswith("user_tower")} <= shared
    assert not {name for name in shared if name.endswith("_rows") and name.startswith("item")}


def test_only_what_nobody_learnt_moves_with_what_is_said() -> None:
    """A cold item of the bundle gets the vector of its new genre, a learnt one keeps its own."""
    newcomers, files, _ = published("two_tower", SIDES["two_tower"], NUM_ITEMS)
    assert files.item_ID is not None
    with torch.no_grad():
        model: Any = newcomers._model
        model.forget_items(torch.tensor([4]))
        files.item_ID[4] = model.item_vectors()[4].numpy()
    files.item_counts_I[4] = 0
    changed = catalogue().with_columns(
        pl.when(pl.col("raw_id").is_in(["i4", "i6"])).then(pl.lit("of fog")).otherwise("title").alias("title")
    )
    grown = newcomers.grown(told(changed, [6, 4]))
    assert grown.files.item_ID is not None
    moved = (grown.files.item_ID != files.item_ID).any(axis=1)
    assert np.flatnonzero(moved).tolist() == [4]
    assert grown.files.items["title"][6] == "of fog"
    found = grown.files.index.search(grown.files.item_ID[[4]], 3)  # type: ignore[union-attr]
    exact = np.argsort(-(grown.files.item_ID @ grown.files.item_ID[4]), kind="stable")[:3]
    assert found.item_ids_BK[0].tolist() == exact.tolist()


def test_columns_that_are_encoded_otherwise_today_are_not_read_but_likeness_is() -> None:
    newcomers, files, _ = published("two_tower", SIDES["two_tower"])
    schema = newcomers._manifest.schema
    assert isinstance(schema, FeatureSchema)
    odd = tuple(replace(f, size=f.size + 1) if f.name == "genres" else f for f in schema.item)
    newcomers._manifest.schema = replace(schema, item=odd)  # type: ignore[misc]
    grown = newcomers.grown(told(catalogue(), [COLD]))
    assert files.item_ID is not None
    assert grown.files.item_ID is not None
    weights = slow_stand_ins(files.items, catalogue()[[COLD]])
    np.testing.assert_allclose(grown.files.item_ID[COLD], weights @ files.item_ID, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", BARE)
def test_a_model_that_reads_no_features_takes_the_mean_of_the_most_alike(name: str) -> None:
    newcomers, files, _ = published(name, BARE[name])
    items = catalogue()
    silent = pl.DataFrame({"raw_id": ["s"]}).pipe(lambda row: pl.concat([items, row], how="diagonal"))
    grown = newcomers.grown(told(silent, [COLD, COLD + 1, NUM_ITEMS]))
    assert files.item_ID is not None
    assert grown.files.item_ID is not None
    for row in (COLD, COLD + 1):
        expected = slow_stand_ins(files.items, items[[row]]) @ files.item_ID
        np.testing.assert_allclose(grown.files.item_ID[row], expected, rtol=1e-4, atol=1e-6)
    assert not grown.files.item_ID[NUM_ITEMS].any()  # nothing is alike: it is never found
    found = grown.files.index.search(np.ones((1, 8), np.float32), NUM_ITEMS)  # type: ignore[union-attr]
    assert NUM_ITEMS not in found.item_ids_BK


def slow_stand_ins(items: pl.DataFrame, one: pl.DataFrame) -> np.ndarray:
    """Shares of likeness by their definition: bags of terms, weights by rarity, cosines, the best of them."""

    def bag(frame: pl.DataFrame) -> list[set[str]]:
        return [set(terms_of(row, bigrams=False)) for row in frame.drop("raw_id").iter_rows(named=True)]

    rows, (mine,) = bag(items), bag(one)

    def weight(term: str) -> float:
        return math.log((1 + len(rows)) / (1 + sum(term in row for row in rows))) + 1

    def length(row: set[str]) -> float:
        return math.hypot(*map(weight, row))

    likeness = [sum(weight(term) ** 2 for term in row & mine) / (length(row) * length(mine)) for row in rows]
    best = sorted(range(len(rows)), key=lambda n: (-round(likeness[n], 9), n))[:MOST_ALIKE]
    shares = np.zeros(len(rows))
    shares[best] = [likeness[n] / sum(likeness[each] for each in best) for n in best]
    return shares


def test_likeness_is_what_it_says_and_only_learnt_items_stand_in() -> None:
    items, learnt_I = catalogue().head(COLD), np.arange(COLD) % 3 > 0
    likeness = Likeness(items, learnt_I)
    for row in (COLD, COLD + 1):
        one = catalogue()[[row]].with_columns(title=pl.lit("a red word of its own"))
        found = likeness.stand_ins(one).toarray()[0]
        assert not found[~learnt_I].any()
        every = Likeness(items, np.ones(COLD, bool)).stand_ins(one).toarray()[0]
        np.testing.assert_allclose(every, slow_stand_ins(items, one), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["item_knn", "popularity", "ncf"])
def test_without_vectors_a_new_item_scores_as_the_mean_of_the_most_alike(name: str) -> None:
    items = catalogue()
    silent = pl.DataFrame({"raw_id": ["s"]}).pipe(lambda row: pl.concat([items, row], how="diagonal"))
    schema = FeatureSchema(num_users=NUM_USERS, num_items=COLD)
    torch.manual_seed(0)
    model: Any = models.build(name, {}, schema).eval()
    if hasattr(model, "learn"):
        rng = np.random.default_rng(1)
        model.learn(*(torch.from_numpy(rng.integers(0, n, 300)) for n in (NUM_USERS, COLD)))
    files = RetrieverFiles(
        users=pl.DataFrame({"raw_id": list("abcdefg")}),
        items=items.head(COLD),
        item_counts_I=np.ones(COLD, np.int64),
        item_ID=None,
        user_UD=None,
        index=None,
    )
    manifest: Any = SimpleNamespace(model=name, config={}, schema=schema, reference="a version")
    grown: Grown = Newcomers(manifest, files, model).grown(told(silent, [COLD, COLD + 1, NUM_ITEMS]))
    queries = QueryBatch(torch.tensor([2]), *query_of([3, 9, COLD, NUM_ITEMS])[1:])
    scores_I = grown.model.score_items(queries)[0].numpy()  # type: ignore[operator]
    weights = slow_stand_ins(files.items, items[[COLD]])
    like_cold = int(weights.argmax())  # in the history it counts as the item most like it
    known_I = model.score_items(QueryBatch(torch.tensor([2]), *query_of([3, 9, like_cold])[1:]))[0].numpy()
    np.testing.assert_array_equal(scores_I[:COLD], known_I)
    assert scores_I[COLD] == pytest.approx(weights @ known_I, rel=1e-4)
    assert scores_I[NUM_ITEMS] < known_I.min()
