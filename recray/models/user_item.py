"""Users by items as a sparse matrix: what models see that learn from all interactions at once.

A pair of a user and an item has one entry, whatever its repeats: that of the one that counts most.

Shapes: B queries, I catalogue, N interactions, P pairs.
"""

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from recray.arrays import Float32s, Float64s, Int64s
from recray.batch import Jagged
from recray.ops.recency import recency_weights
from recray.ops.whole_parts import whole_parts
from recray.schema import DataError

BLOCK_CELLS = 2**22  # pairs of items that are held at a time on the way


def taken_matrix(
    user_ids_N: Tensor, item_ids_N: Tensor, num_items: int, weights_N: Tensor | None = None
) -> sp.csr_array:
    """Rows of users, columns of items: 1, or the whole parts of the weight (float64, ``ops.whole_parts``).

    Raises:
        DataError: an item id outside the catalogue or a negative user id.
    """
    users_N, items_N = user_ids_N.cpu().numpy(), item_ids_N.cpu().numpy()
    for name, ids_N, limit in (("user", users_N, None), ("item", items_N, num_items)):
        if len(ids_N) and (ids_N.min() < 0 or (limit is not None and ids_N.max() >= limit)):
            upper = "" if limit is None else f" and below {limit}"
            raise DataError(f"{name} ids must be 0 or more{upper}, got {ids_N.min()}..{ids_N.max()}")
    num_users = int(users_N.max()) + 1 if len(users_N) else 0
    parts_N = None if weights_N is None else whole_parts(weights_N.cpu().numpy()).parts_N
    return _largest(users_N, items_N, parts_N, (num_users, num_items))


def shares(taken: sp.csr_array) -> sp.csr_array:
    """The same with entries as shares of the largest: only proportions of weights count."""
    taken.data = taken.data / taken.data.max(initial=1.0)
    return taken


def gram(taken: sp.csr_array) -> Float64s:
    """Xᵀ X, dense: for each pair of items the sum over users of the product of their entries."""
    num_items = taken.shape[1]
    gram_II = np.empty((num_items, num_items))
    by_item = taken.T.tocsr()
    rows = max(1, BLOCK_CELLS // max(1, num_items))
    for start in range(0, num_items, rows):
        gram_II[start : start + rows] = (by_item[start : start + rows] @ taken).toarray()
    return gram_II


def history_matrix(history: Jagged, num_items: int, recency: float = 0.0) -> sp.csr_array:
    """Rows of queries, columns of items: float32 1, or with ``recency`` what ``ops.recency`` says."""
    rows_N, items_N = history.rows_N().cpu().numpy(), history.values_N.cpu().numpy()
    weights_N = recency_weights(rows_N, recency) if recency else None
    return _largest(rows_N, items_N, weights_N, (len(history.offsets_B) - 1, num_items))


def _largest(
    rows_N: Int64s, items_N: Int64s, values_N: Float32s | Float64s | None, shape: tuple[int, int]
) -> sp.csr_array:
    """The largest value of each pair; None: 1 for all, float32."""
    keys_P, pair_N = np.unique(rows_N * shape[1] + items_N, return_inverse=True)
    if values_N is None:
        largest_P = np.ones(len(keys_P), np.float32)
    else:
        largest_P = np.zeros(len(keys_P), values_N.dtype)
        np.maximum.at(largest_P, pair_N, values_N)
    starts = np.searchsorted(keys_P, np.arange(shape[0] + 1) * shape[1])
    return sp.csr_array((largest_P, keys_P % shape[1], starts), shape=shape)
