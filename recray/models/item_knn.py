"""ItemKNN: items that the users of your history also took.

Deshpande & Karypis, Item-Based Top-N Recommendation Algorithms, ACM TOIS 2004,
https://doi.org/10.1145/963770.963776, with cosine similarity. x_i is the column of item i in the
user-item matrix: 1 where a user has the item; with weights, the largest of the pair as a share of the
largest of all.

    s(i, j) = x_i · x_j / (|x_i|^2a |x_j|^(2 - 2a) + shrink + 1e-6),   a = 1/2

Every item j keeps its k most similar items N(j), itself left out, and a history H scores
it by Σ_{i in H ∩ N(j)} s(i, j): the similarity, the 1e-6, and neighbours per scored item are those of
RecBole 1.2.1. Equal similarities go to the lower item id. Other a are the asymmetric cosine of Aiolli,
Efficient Top-N Recommendation for Very Large Scale Binary Rated Datasets, RecSys 2013,
https://doi.org/10.1145/2507157.2507189; rows of the matrix at unit length are Deshpande & Karypis's own.

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
from recray.batch import QueryBatch
from recray.config import ConfigError
from recray.models.user_item import BLOCK_CELLS, history_matrix, taken_matrix
from recray.schema import FeatureSchema

logger = logging.getLogger(__name__)

_REPORT_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class ItemKNNConfig:
    """The neighbourhood."""

    num_neighbors: int = 100
    """Most similar items kept per item; the catalogue size where that is smaller."""
    shrink: float = 0.0
    """Added to the denominator of the cosine: damps similarities that rest on few users."""
    asymmetry: float = 0.5
    """The a above, from 0 to 1: where it is larger, frequent items of a history say less."""
    user_normalization: float = 0.0
    """A user's entries are divided by this power of their number: who takes much says little of what goes
    together. 0: all alike, 0.5: rows of unit length."""
    recency: float = 0.0
    """Newer items of a history count more: weight 0.1 + exp(-newer ones / recency); 0: all alike. Off where
    what is held out does not come later."""

    def __post_init__(self) -> None:
        if self.num_neighbors < 1:
            raise ConfigError(f"num_neighbors must be at least 1, got {self.num_neighbors}")
        if self.shrink < 0:
            raise ConfigError(f"shrink must not be negative, got {self.shrink}")
        if not 0 <= self.asymmetry <= 1:
            raise ConfigError(f"asymmetry must be from 0 to 1, got {self.asymmetry}")
        if min(self.user_normalization, self.recency) < 0:
            raise ConfigError(
                f"user_normalization and recency must not be negative, got {self.user_normalization} and "
                f"{self.recency}"
            )


class ItemKNN(nn.Module):
    """Retriever and WholeLearner (``recray.contract``). Needs no user id: unknown users score alike.

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

    def learn(self, user_ids_N: Tensor, item_ids_N: Tensor, weights_N: Tensor | None = None) -> None:
        """Finds the neighbours of every item; a user's repeats count once, by the one that weighs most.

        Raises:
            DataError: an item id outside the catalogue or a negative user id.
        """
        taken = taken_matrix(user_ids_N, item_ids_N, len(self.neighbor_ids_IK), weights_N)
        taken = _normalized(taken, self.config.user_normalization)
        num_items, k = self.neighbor_ids_IK.shape
        squares_I = taken.power(2).sum(axis=0, dtype=np.float64)
        damping = (self.config.shrink + 1e-6) * (float(taken.data.max()) ** 2 if taken.nnz else 1.0)
        by_item = taken.T.tocsr()
        rows = max(1, BLOCK_CELLS // num_items)
        reported = time.perf_counter()
        for start in range(0, num_items, rows):
            stop = min(start + rows, num_items)
            lengths_JI = _lengths(squares_I[start:stop], squares_I, self.config.asymmetry) + damping
            ids, similarities = _most_similar(_cosine(by_item[start:stop], taken, start, lengths_JI), k)
            self.neighbor_ids_IK[start:stop] = torch.from_numpy(ids)
            self.similarities_IK[start:stop] = torch.from_numpy(similarities)
            if time.perf_counter() - reported > _REPORT_EVERY_S:
                reported = time.perf_counter()
                logger.info("neighbours of %d of %d items", stop, num_items)
        self._index()

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
        history = history_matrix(queries.history, len(self.neighbor_ids_IK), self.config.recency)
        scores_BI: Float32s = (history @ self._votes).toarray()
        return torch.from_numpy(scores_BI).to(self.similarities_IK.device)


def _normalized(taken: sp.csr_array, power: float) -> sp.csr_array:
    """Each user's entries divided by a power of their number."""
    if power:
        lengths_U = np.diff(taken.indptr)
        taken.data = taken.data / np.repeat(lengths_U, lengths_U) ** power
    return taken


def _lengths(block_J: Float64s, squares_I: Float64s, asymmetry: float) -> Float64s:
    """|x_i|^2a |x_j|^(2 - 2a) of a block of scored items j and all i."""
    if asymmetry == 0.5:  # one root of an exact product: equal cosines tie, whatever the lengths behind them
        product_JI: Float64s = np.sqrt(np.outer(block_J, squares_I))
        return product_JI
    return np.outer(block_J ** (1 - asymmetry), squares_I**asymmetry)


def _cosine(block: sp.csr_array, taken: sp.csr_array, start: int, lengths_JI: Float64s) -> Float32s:
    """Similarities of a block of items, by their users, to all others; 0 to themselves."""
    together = (block @ taken).toarray()
    block_J = np.arange(len(together))
    together[block_J, start + block_J] = 0
    cosine: Float32s = (together / lengths_JI).astype(np.float32)
    return cosine


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
