"""Further vectors beside an index: merged exactly, and the index's own answers stay as they are."""

import numpy as np
import pytest

from recray.config import ConfigError
from recray.ops.ann import IndexConfig, build_index
from recray.ops.index_beside import IndexBeside

RNG = np.random.default_rng(0)
ITEM_ID = RNG.normal(size=(400, 8)).astype(np.float32)
QUERY_BD = RNG.normal(size=(20, 8)).astype(np.float32)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_both_are_searched_as_one(kind: str) -> None:
    index = build_index(ITEM_ID, IndexConfig(kind=kind))  # type: ignore[arg-type]
    rows_R, vectors_RD = np.array([400, 7, 401, 402]), RNG.normal(size=(4, 8)).astype(np.float32)
    vectors_RD[2] = 0.0  # nothing is known of it
    all_ID = np.concatenate([ITEM_ID, np.zeros((3, 8), np.float32)])
    all_ID[rows_R] = vectors_RD
    beside = IndexBeside(index, rows_R, vectors_RD)
    assert beside.num_items == 403
    scores_BI = QUERY_BD @ all_ID.T
    scores_BI[:, 401] = -np.inf
    found = beside.search(QUERY_BD, 25)
    np.testing.assert_array_equal(found.item_ids_BK, np.argsort(-scores_BI, axis=1)[:, :25])
    np.testing.assert_allclose(found.scores_BK, -np.sort(-scores_BI, axis=1)[:, :25], rtol=1e-5)
    everything = beside.search(QUERY_BD, 403).item_ids_BK
    assert everything.shape == (20, 403)
    assert 401 not in everything
    for row in everything:
        found_ids = row[row >= 0]
        assert len(set(found_ids.tolist())) == len(found_ids)


def test_what_is_further_away_than_all_that_is_found_changes_nothing() -> None:
    index = build_index(ITEM_ID, IndexConfig(kind="hnsw"))
    far_RD = np.full((2, 8), 1e-6, np.float32)
    beside = IndexBeside(index, np.array([400, 401]), far_RD)
    before, after = index.search(QUERY_BD, 50), beside.search(QUERY_BD, 50)
    np.testing.assert_array_equal(after.item_ids_BK, before.item_ids_BK)
    np.testing.assert_array_equal(after.scores_BK, before.scores_BK)


@pytest.mark.parametrize(("k", "dim"), [(0, 8), (5, 7)])
def test_what_the_index_refuses_is_refused(k: int, dim: int) -> None:
    beside = IndexBeside(build_index(ITEM_ID, IndexConfig(kind="exact")), np.array([400]), ITEM_ID[:1])
    with pytest.raises(ConfigError):
        beside.search(QUERY_BD[:, :dim], k)
