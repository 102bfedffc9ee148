"""Nearest neighbours by inner product: FAISS indexes, and the plain PyTorch search beside them.

Exact search, HNSW (Malkov & Yashunin 2018, https://arxiv.org/abs/1603.09320) and IVF-PQ (Jegou et
al. 2011, https://doi.org/10.1109/TPAMI.2010.57) have one signature. Only this file imports faiss.

Shapes: B queries, K results, D vector dim, I items.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import faiss
import numpy as np
import torch

from recray.arrays import Float32s, Int64s
from recray.config import ConfigError, from_dict, to_dict

MIN_ITEMS_IVF_PQ = 256  # a product quantizer of 8 bits has 256 centroids to place


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """How item vectors are searched."""

    kind: Literal["exact", "hnsw", "ivf_pq"] = "hnsw"
    """exact: every item. hnsw: a graph, fast and accurate. ivf_pq: compressed, for very large catalogues."""
    hnsw_links: int = 32
    """Graph neighbours per item."""
    hnsw_ef_construction: int = 200
    """Candidates looked at while the graph is built."""
    hnsw_ef_search: int = 256
    """Candidates looked at per query; also the most results that one query gets well."""
    ivf_lists: int = 0
    """Coarse cells; 0 chooses 4 * sqrt(items), at most items / 39."""
    ivf_probes: int = 32
    """Cells visited per query."""
    pq_bytes: int = 16
    """Bytes per compressed vector; must divide the vector's dimension."""
    pq_refine: int = 4
    """Re-rank this many times k by the exact inner product; 0 keeps no exact vectors."""

    def __post_init__(self) -> None:
        for name in ("hnsw_links", "hnsw_ef_construction", "hnsw_ef_search", "ivf_probes", "pq_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


class SearchResult(NamedTuple):
    """Best first; where an index finds fewer than k, ids are -1 and scores -inf."""

    item_ids_BK: Int64s
    scores_BK: Float32s


class Index:
    """A searchable set of item vectors; item i is row i of what it was built from."""

    def __init__(self, faiss_index: faiss.Index, config: IndexConfig) -> None:
        self._index = faiss_index
        self.config = config

    @property
    def num_items(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        return int(self._index.d)

    def search(self, query_BD: Float32s, k: int) -> SearchResult:
        """The k items of largest inner product.

        Raises:
            ConfigError: k outside 1..num_items, or queries of another dimension.
        """
        if not 1 <= k <= self.num_items:
            raise ConfigError(f"k must be between 1 and {self.num_items} (items in the index), got {k}")
        if query_BD.ndim != 2 or query_BD.shape[1] != self.dim:
            raise ConfigError(f"queries must have shape [B, {self.dim}], got {list(query_BD.shape)}")
        scores_BK, item_ids_BK = self._index.search(np.ascontiguousarray(query_BD, dtype=np.float32), k)
        scores_BK[item_ids_BK < 0] = -np.inf
        return SearchResult(item_ids_BK, scores_BK)

    def save(self, path: Path) -> None:
        """Writes the index, and its config as JSON beside it."""
        faiss.write_index(self._index, str(path))
        path.with_suffix(".json").write_text(json.dumps(to_dict(self.config), indent=1))


def load_index(path: Path) -> Index:
    return Index(
        faiss.read_index(str(path)), from_dict(IndexConfig, json.loads(path.with_suffix(".json").read_text()))
    )


def build_index(item_ID: Float32s, config: IndexConfig, seed: int = 0) -> Index:
    """An index over float32 item vectors.

    Raises:
        ConfigError: the catalogue or the dimension does not fit the kind of index.
    """
    item_ID = np.ascontiguousarray(item_ID, dtype=np.float32)
    if item_ID.ndim != 2 or len(item_ID) == 0:
        raise ConfigError(f"item vectors must have shape [I, D] with I > 0, got {list(item_ID.shape)}")
    if not np.isfinite(item_ID).all():
        raise ConfigError("item vectors hold NaN or infinity: the model they come from has diverged")
    index = {"exact": _exact, "hnsw": _hnsw, "ivf_pq": _ivf_pq}[config.kind](item_ID, config, seed)
    index.add(item_ID)
    return Index(index, config)


def _exact(item_ID: Float32s, config: IndexConfig, seed: int) -> faiss.Index:
    return faiss.IndexFlatIP(item_ID.shape[1])


def _hnsw(item_ID: Float32s, config: IndexConfig, seed: int) -> faiss.Index:
    index = faiss.IndexHNSWFlat(item_ID.shape[1], config.hnsw_links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = config.hnsw_ef_construction
    index.hnsw.efSearch = config.hnsw_ef_search
    return index


def _ivf_pq(item_ID: Float32s, config: IndexConfig, seed: int) -> faiss.Index:
    num_items, dim = item_ID.shape
    if num_items < MIN_ITEMS_IVF_PQ:
        raise ConfigError(
            f"ivf_pq needs at least {MIN_ITEMS_IVF_PQ} items, got {num_items}: use kind='exact' or 'hnsw'"
        )
    if dim % config.pq_bytes:
        raise ConfigError(f"pq_bytes must divide the dimension {dim}, got {config.pq_bytes}")
    # faiss asks for 39 training points per cell.
    lists = config.ivf_lists or max(1, min(int(4 * num_items**0.5), num_items // 39))
    cells = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFPQ(cells, dim, lists, config.pq_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(config.ivf_probes, lists)
    index.cp.seed = index.pq.cp.seed = seed
    # A small catalogue gives the quantizer few points per centroid; recall is measured, so no warning.
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    if not config.pq_refine:
        index.train(item_ID)
        return index
    refined = faiss.IndexRefineFlat(index)
    refined.k_factor = float(config.pq_refine)
    refined.train(item_ID)
    return refined


def search_exact(query_BD: Float32s, item_ID: Float32s, k: int) -> SearchResult:
    """The plain PyTorch twin of ``Index.search``: every inner product, then the k largest."""
    scores_BI = torch.from_numpy(query_BD) @ torch.from_numpy(item_ID).T
    scores_BK, item_ids_BK = scores_BI.topk(k)
    return SearchResult(item_ids_BK.numpy(), scores_BK.numpy())


def recall_against_exact(index: Index, query_BD: Float32s, item_ID: Float32s, k: int) -> float:
    """Mean share of the exact top k that the index returns in its top k."""
    found_BK = index.search(query_BD, k).item_ids_BK
    exact_BK = search_exact(query_BD, item_ID, k).item_ids_BK
    return float(np.mean([np.isin(e, f).mean() for e, f in zip(exact_BK, found_BK, strict=True)]))


def set_num_threads(count: int) -> None:
    """Threads per search; a replica that answers one request at a time wants 1."""
    faiss.omp_set_num_threads(count)
