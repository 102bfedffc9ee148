"""ItemKNN: items that the users of your history also took.

Deshpande & Karypis, Item-Based Top-N Recommendation Algorithms, ACM TOIS 2004,
https://doi.org/10.1145/963770.963776, with cosine similarity. x_i is the column of item i in the
user-item matrix: 1 where a user has the item; with weights, the largest of the pair as a share of the
largest of all.

    s(i, j) = x_i · x_j / (|x_i| |x_j| + shrink + 1e-6)

Every item j keeps its k most similar items N(j), itself left out, and a history H scores
it by Σ_{i in H ∩ N(j)} s(i, j): the similarity, the 1e-6, and neighbours per scored item are those of
RecBole 1.2.1. Equal similarities go to the lower item id.

Shapes: B batch, I catalogue, K neighbours, N interactions.
"""

import logging
import time
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recray.arrays import Float32s, Float64s, Int64s
from recray.batch import Jagged, QueryBatch
from recray.config import ConfigError
from recray.ops.whole_parts import whole_parts
from recray.schema import DataError, FeatureSchema

logger = logging.getLogger(__name__)

_BLOCK_CELLS = 2**22  # similarities held at a time while counting
_REPORT_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class ItemKNNConfig:
    """The neighbourhood."""

    num_neighbors: int = 100
    """Most similar items kept per item; the catalogue size where that is smaller."""
    shrink: float = 0.0
    """Added to the denominator of the cosine: damps similarities that rest on few users."""

    def __post_init__(self) -> None:
        if self.num_neighbors < 1:
            raise ConfigError(f"num_neighbors must be at least 1, got {self.num_neighbors}")
        if self.shrink < 0:
            raise ConfigError(f"shrink must not be negative, got {self.shrink}")


class ItemKNN(nn.Module):
    """Retriever and CountLearner (``recray.contract``). Needs no user id: unknown users score alike.

    State: ``neighbor_ids_IK`` int64 and ``similarities_IK`` float32, most similar first; similarity 0
    where an item has fewer neighbours. Scoring runs on the CPU.
    """

    reads_history = True
    neighbor_ids_IK: Tensor
    similarities_IK: Tensor

    def __init__(self, config: ItemKNNConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.config = config
        shape = (schema.num_items, min(config.num_neighbors, schema.num_items))
        self.register_buffer("neighbor_ids_IK", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("similarities_IK", torch.zeros(shape))
        self._votes = sp.csr_array((shape[0], shape[0]), dtype=np.float32)
        self.register_load_state_dict_post_hook(_index_loaded)  # type: ignore[no-untyped-call]

    def count(self, user_ids_N: Tensor, item_ids_N: Tensor, weights_N: Tensor | None = None) -> None:
        """Finds the neighbours of every item; a user's repeats count once, by the one that weighs most.

        Raises:
            DataError: an item id outside the catalogue or a negative user id.
        """
        taken = self._taken(user_ids_N.cpu().numpy(), item_ids_N.cpu().numpy())
        if weights_N is not None:
            taken = _weighted(
                taken, user_ids_N.cpu().numpy(), item_ids_N.cpu().numpy(), weights_N.cpu().numpy()
            )
        num_items, k = self.neighbor_ids_IK.shape
        squares_I = taken.power(2).sum(axis=0, dtype=np.float64)
        damping = (self.config.shrink + 1e-6) * float(taken.data.max(initial=1.0)) ** 2
        by_item = taken.T.tocsr()
        rows = max(1, _BLOCK_CELLS // num_items)
        reported = time.perf_counter()
        for start in range(0, num_items, rows):
            stop = min(start + rows, num_items)
            cosine = _cosine(by_item[start:stop], taken, squares_I, start, damping)
            ids, similarities = _most_similar(cosine, k)
            self.neighbor_ids_IK[start:stop] = torch.from_numpy(ids)
            self.similarities_IK[start:stop] = torch.from_numpy(similarities)
            if time.perf_counter() - reported > _REPORT_EVERY_S:
                reported = time.perf_counter()
                logger.info("neighbours of %d of %d items", stop, num_items)
        self._index()

    def _taken(self, user_ids_N: Int64s, item_ids_N: Int64s) -> sp.csr_array:
        """The binary user-item matrix, float32."""
        num_items = len(self.neighbor_ids_IK)
        for name, ids_N, limit in (("user", user_ids_N, None), ("item", item_ids_N, num_items)):
            if len(ids_N) and (ids_N.min() < 0 or (limit is not None and ids_N.max() >= limit)):
                upper = "" if limit is None else f" and below {limit}"
                raise DataError(f"{name} ids must be 0 or more{upper}, got {ids_N.min()}..{ids_N.max()}")
        num_users = int(user_ids_N.max()) + 1 if len(user_ids_N) else 0
        ones_N = np.ones(len(item_ids_N), dtype=np.float32)
        # From here on 1s only: building the matrix adds repeats up.
        taken = sp.csr_array((ones_N, (user_ids_N, item_ids_N)), shape=(num_users, num_items))
        taken.data[:] = 1
        return taken

    def _index(self) -> None:
        """Turns the lists around: row i of ``_votes`` holds the items that have i as a neighbour."""
        num_items, k = self.neighbor_ids_IK.shape
        shape = (num_items, num_items)
        starts = np.arange(0, num_items * k + 1, k)
        lists = sp.csr_array(
            (self.similarities_IK.cpu().numpy().ravel(), self.neighbor_ids_IK.cpu().numpy().ravel(), starts),
            shape=shape,
            copy=True,  # else dropping the zeros would move the buffers' values
        )
        lists.eliminate_zeros()
        self._votes = lists.T.tocsr()

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI, float32: sums of similarities to the history, in which repeats count once."""
        scores_BI: Float32s = (self._histories(queries.history) @ self._votes).toarray()
        return torch.from_numpy(scores_BI).to(self.similarities_IK.device)

    def _histories(self, history: Jagged) -> sp.csr_array:
        items_N = history.values_N.cpu().numpy()
        offsets_B = history.offsets_B.cpu().numpy()
        ones_N = np.ones(len(items_N), dtype=np.float32)
        shape = (len(offsets_B) - 1, len(self.neighbor_ids_IK))
        # Copied: adding up repeats sorts in place, which would reorder the caller's history.
        taken = sp.csr_array((ones_N, items_N, offsets_B), shape=shape, copy=True)
        taken.sum_duplicates()
        taken.data[:] = 1
        return taken


def _cosine(
    block: sp.csr_array, taken: sp.csr_array, squares_I: Float64s, start: int, damping: float
) -> Float32s:
    """Similarities of a block of items, by their users, to all others; 0 to themselves."""
    together = (block @ taken).toarray()
    block_I = np.arange(start, start + len(together))
    together[block_I - start, block_I] = 0
    # One root of an exact product: equal cosines tie, whatever the lengths behind them.
    cosine: Float32s = together / (np.sqrt(np.outer(squares_I[block_I], squares_I)) + damping)
    return cosine.astype(np.float32)


def _weighted(
    taken: sp.csr_array, user_ids_N: Int64s, item_ids_N: Int64s, weights_N: Float32s
) -> sp.csr_array:
    """The matrix with the whole parts of each pair's largest weight in the place of its 1, float64."""
    taken.sum_duplicates()  # sorts too: pairs are then in the order of their keys
    num_items = taken.shape[1]
    users_P = np.repeat(np.arange(taken.shape[0]), np.diff(taken.indptr))
    place_N = np.searchsorted(users_P * num_items + taken.indices, user_ids_N * num_items + item_ids_N)
    largest_P = np.zeros(len(users_P))
    np.maximum.at(largest_P, place_N, whole_parts(weights_N).parts_N)
    return sp.csr_array((largest_P, taken.indices, taken.indptr), shape=taken.shape)


def _index_loaded(model: ItemKNN, incompatible_keys: object) -> None:
    model._index()


def _most_similar(similarities: Float32s, k: int) -> tuple[Int64s, Float32s]:
    """The k largest of each row, best first, lower column first among equals: columns and values."""
    num_columns = similarities.shape[1]
    # The bits of a float that is not negative order as the float does. With the column behind them
    # every key is different, and one partition of keys gives values and columns at once.
    bits = similarities.view(np.uint32).astype(np.uint64) << np.uint64(32)
    keys = bits | (num_columns - 1 - np.arange(num_columns, dtype=np.uint64))
    best = np.sort(np.partition(keys, num_columns - k, axis=1)[:, num_columns - k :], axis=1)[:, ::-1]
    columns = num_columns - 1 - (best & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return columns, (best >> np.uint64(32)).astype(np.uint32).view(np.float32)


MODEL = ItemKNN
