"""An index that knows further vectors: those beside it are compared with exactly, and both answers merged.

What the index itself finds stays as it is, bit for bit; nothing is built anew.

Shapes: B queries, K results, D vector dim, R further rows.
"""

import numpy as np

from recray.arrays import Float32s, Int64s
from recray.ops.ann import Index, SearchResult


class IndexBeside(Index):
    """
    Args:
        index: over the first rows of the catalogue.
        rows_R: of the further vectors, int64; those that the index knows too have their old vector in it,
            which is not found any more. The rows behind the index's own are all among them.
        vectors_RD: float32; one of zeros is not found.
    """

    def __init__(self, index: Index, rows_R: Int64s, vectors_RD: Float32s) -> None:
        super().__init__(index._index, index.config)
        self._before = index
        is_found_R = vectors_RD.any(axis=1)
        self._rows_R, self._vectors_RD = rows_R[is_found_R], np.ascontiguousarray(vectors_RD[is_found_R])
        self._hidden = rows_R[rows_R < index.num_items]
        self._num_items = index.num_items + len(rows_R) - len(self._hidden)

    @property
    def num_items(self) -> int:
        return self._num_items

    def search(self, query_BD: Float32s, k: int) -> SearchResult:
        """The k items of largest inner product; of equal ones those of the index first.

        Raises:
            ConfigError: as ``Index.search``.
        """
        before = self._before.num_items
        found = self._before.search(query_BD, min(k + len(self._hidden), before) if k > 0 else k)
        item_ids_BK, scores_BK = found
        if len(self._hidden):
            is_hidden_BK = np.isin(item_ids_BK, self._hidden)
            item_ids_BK = np.where(is_hidden_BK, -1, item_ids_BK)
            scores_BK = np.where(is_hidden_BK, -np.inf, scores_BK).astype(np.float32)
        more_BR = query_BD.astype(np.float32, copy=False) @ self._vectors_RD.T
        more_ids_BR = np.broadcast_to(self._rows_R, more_BR.shape)
        ids_BK = np.concatenate([item_ids_BK, more_ids_BR], axis=1)
        both_BK = np.concatenate([scores_BK, more_BR], axis=1)
        order_BK = np.argsort(-both_BK, axis=1, kind="stable")[:, :k]
        return SearchResult(
            np.take_along_axis(ids_BK, order_BK, axis=1), np.take_along_axis(both_BK, order_BK, axis=1)
        )
