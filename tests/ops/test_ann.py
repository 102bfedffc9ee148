"""FAISS indexes against the plain PyTorch search, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest

from recray.arrays import Float32s
from recray.config import ConfigError
from recray.ops.ann import IndexConfig, build_index, load_index, recall_against_exact, search_exact

RNG = np.random.default_rng(0)


def unit_vectors(count: int, dim: int = 32) -> Float32s:
    """Clustered like a real catalogue: uniform noise has no neighbours worth finding."""
    centres = RNG.normal(size=(20, dim))
    vectors = centres[RNG.integers(20, size=count)] + 0.5 * RNG.normal(size=(count, dim))
    unit: Float32s = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


ITEMS, QUERIES = unit_vectors(2000), unit_vectors(50)


def test_exact_index_equals_the_torch_search() -> None:
    mine = build_index(ITEMS, IndexConfig(kind="exact")).search(QUERIES, 10)
    truth = search_exact(QUERIES, ITEMS, 10)
    np.testing.assert_array_equal(mine.item_ids_BK, truth.item_ids_BK)
    np.testing.assert_allclose(mine.scores_BK, truth.scores_BK, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "least"),
    [
        (IndexConfig(kind="hnsw"), 0.99),
        (IndexConfig(kind="ivf_pq", pq_bytes=8), 0.9),
        (IndexConfig(kind="ivf_pq", pq_bytes=8, pq_refine=0), 0.3),
    ],
    ids=["hnsw", "ivf_pq+refine", "ivf_pq"],
)
def test_approximate_indexes_find_most_of_the_truth(
    config: IndexConfig, least: float, tmp_path: Path
) -> None:
    index = build_index(ITEMS, config)
    assert recall_against_exact(index, QUERIES, ITEMS, 20) >= least
    index.save(tmp_path / "index.faiss")
    loaded = load_index(tmp_path / "index.faiss")
    assert loaded.config == config
    np.testing.assert_array_equal(
        loaded.search(QUERIES, 20).item_ids_BK, index.search(QUERIES, 20).item_ids_BK
    )


def test_hnsw_can_return_the_whole_catalogue() -> None:
    index = build_index(ITEMS[:300], IndexConfig(kind="hnsw"))
    ids = index.search(QUERIES, 300).item_ids_BK
    assert sorted(ids[0][ids[0] >= 0].tolist()) == list(range(300))


def test_refusals_say_the_way_out() -> None:
    with pytest.raises(ConfigError, match="at least 256 items, got 10"):
        build_index(ITEMS[:10], IndexConfig(kind="ivf_pq"))
    with pytest.raises(ConfigError, match="must divide the dimension 32, got 5"):
        build_index(ITEMS, IndexConfig(kind="ivf_pq", pq_bytes=5))
    with pytest.raises(ConfigError, match="NaN"):
        build_index(np.full((3, 2), np.nan, dtype=np.float32), IndexConfig())
    with pytest.raises(ConfigError, match="k must be between 1 and 2000"):
        build_index(ITEMS, IndexConfig(kind="exact")).search(QUERIES, 2001)
    with pytest.raises(ConfigError, match="shape"):
        build_index(ITEMS, IndexConfig(kind="exact")).search(QUERIES[:, :5], 3)
    with pytest.raises(ConfigError, match="hnsw_links must be at least 1"):
        IndexConfig(hnsw_links=0)
