"""iALS: factors of users and items by alternating least squares over all pairs, observed or not.

Hu, Koren & Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008, as revisited by
Rendle, Krichene, Zhang & Koren, Revisiting the Performance of iALS on Item Recommendation Benchmarks, RecSys
2022, https://arxiv.org/abs/2110.14037. S are the observed pairs, w_u and h_i the vectors of U users and I
items; it minimises

    Σ_S c_ui (1 - w_u·h_i)² + α0 Σ_all (w_u·h_i)² + λ (Σ_u n_u^ν |w_u|² + Σ_i n_i^ν |h_i|²)

where n_u = Σ_{i in S_u} c_ui + α0 I and n_i = Σ_{u in S_i} c_ui + α0 U (equations 3 to 5 there, in which each
c_ui is 1; with weights, a pair's largest as a share of the largest of all). Items alone are kept: a user is
solved for from its history when it asks, where with ``recency`` newer items have the larger c.

Shapes: B batch, D embedding dim, I catalogue, U users, N interactions, L longest row of a block.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recray.batch import QueryBatch
from recray.config import ConfigError
from recray.models.side_features import unknown_last
from recray.models.user_item import history_matrix, shares, taken_matrix
from recray.schema import FeatureSchema

_BLOCK_NUMBERS = 2**20  # of the vectors that are gathered together: they stay in the cache


@dataclass(frozen=True, kw_only=True)
class IALSConfig:
    """The objective, and how long it is gone after."""

    embedding_dim: int = 64
    """Size of the vectors of users and items."""
    unobserved_weight: float = 0.1
    """α0: how much a pair that was not observed counts beside one that was."""
    l2: float = 0.003
    """λ: of the vectors, times the power ν of what each is learnt from."""
    frequency_power: float = 1.0
    """ν: 0 regularises all vectors alike, 1 by how much they are learnt from."""
    iterations: int = 16
    """Times that all users and then all items are solved for."""
    recency: float = 0.0
    """Newer items of a history count more: weight 0.1 + exp(-newer ones / recency); 0: all alike. Off where
    what is held out does not come later."""

    def __post_init__(self) -> None:
        if min(self.embedding_dim, self.iterations) < 1:
            raise ConfigError(
                f"embedding_dim and iterations must be at least 1, got {self.embedding_dim} and "
                f"{self.iterations}"
            )
        if min(self.unobserved_weight, self.l2) <= 0:
            raise ConfigError(
                f"unobserved_weight and l2 must be above 0, got {self.unobserved_weight} and {self.l2}"
            )
        if min(self.frequency_power, self.recency) < 0:
            raise ConfigError(
                f"frequency_power and recency must not be negative, got {self.frequency_power} and "
                f"{self.recency}"
            )


class IALS(nn.Module):
    """A ``VectorRetriever`` and ``WholeLearner``; see ``recray.contract``. Needs no user id.

    State: ``item_ID`` float32, zeros where nobody took the item.
    """

    reads_history = True
    item_ID: Tensor

    def __init__(self, config: IALSConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("item_ID", torch.zeros(schema.num_items, config.embedding_dim))

    def learn(self, user_ids_N: Tensor, item_ids_N: Tensor, weights_N: Tensor | None = None) -> None:
        """Starts from items that are drawn at random (torch's generator), and solves for both sides in turn.

        Raises:
            DataError: an item id outside the catalogue or a negative user id.
        """
        taken = shares(taken_matrix(user_ids_N, item_ids_N, len(self.item_ID), weights_N))
        by_item = taken.T.tocsr()
        item_ID = torch.randn(self.item_ID.shape) * 0.1 * self.config.embedding_dim**-0.5
        for _ in range(self.config.iterations):
            user_UD = self._solved(taken, item_ID)
            item_ID = self._solved(by_item, user_UD)
        self.item_ID.copy_(item_ID)

    def _solved(self, rows: sp.csr_array, other_OD: Tensor) -> Tensor:
        """Each row's vector, where the other side stands still; zeros for rows without entries."""
        found = torch.zeros(rows.shape[0], other_OD.shape[1])
        lengths = np.diff(rows.indptr)
        order = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]
        unobserved_DD = self.config.unobserved_weight * other_OD.T @ other_OD
        start, dim = 0, other_OD.shape[1]
        while start < len(order):
            # Of about equal lengths: little of a block is padding. Of each row there are length vectors and a
            # matrix of D.
            stop = start + 1
            while (
                stop < len(order) and (stop - start) * dim * max(lengths[order[stop]], dim) < _BLOCK_NUMBERS
            ):
                stop += 1
            block = order[start:stop]
            found[torch.from_numpy(block)] = self._block(rows[block], other_OD, unobserved_DD)
            start = stop
        return found

    def _block(self, rows: sp.csr_array, other_OD: Tensor, unobserved_DD: Tensor) -> Tensor:
        """The normal equations of some rows, by Cholesky."""
        count_BL, ids_BL = _padded(rows)
        root_BL1 = count_BL.sqrt()[:, :, None]
        entry_BLD = other_OD[ids_BL].mul_(root_BL1)
        entry_BDL = entry_BLD.transpose(1, 2)
        learnt_from_B = count_BL.sum(dim=1) + self.config.unobserved_weight * len(other_OD)
        normal_BDD = torch.baddbmm(unobserved_DD, entry_BDL, entry_BLD)
        ridge_B = self.config.l2 * learnt_from_B**self.config.frequency_power
        normal_BDD.diagonal(dim1=1, dim2=2).add_(ridge_B[:, None])
        wanted_BD1 = entry_BDL @ root_BL1
        return torch.cholesky_solve(wanted_BD1, torch.linalg.cholesky(normal_BDD))[:, :, 0]

    @torch.inference_mode()
    def item_vectors(self) -> Tensor:
        """item_ID."""
        return self.item_ID

    @torch.inference_mode()
    def query_vectors(self, queries: QueryBatch) -> Tensor:
        """query_BD, solved for from the history; zeros without one."""
        history = history_matrix(queries.history, len(self.item_ID), self.config.recency)
        return self._solved(history, self.item_ID.cpu()).to(self.item_ID.device)

    @torch.inference_mode()
    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI: inner products."""
        return unknown_last(self.query_vectors(queries) @ self.item_ID.T, self.item_ID)


def _padded(rows: sp.csr_array) -> tuple[Tensor, Tensor]:
    """Entries and columns of some rows, as long as the longest; what is missing counts 0."""
    lengths_B = np.diff(rows.indptr)
    is_there_BL = np.arange(lengths_B.max()) < lengths_B[:, None]
    count_BL, ids_BL = np.zeros(is_there_BL.shape, np.float32), np.zeros(is_there_BL.shape, np.int64)
    count_BL[is_there_BL], ids_BL[is_there_BL] = rows.data, rows.indices
    return torch.from_numpy(count_BL), torch.from_numpy(ids_BL)


MODEL = IALS
