"""Linear maps from a history to all items, learnt from the products of items: what EASE and SLIM share.

Both regress each item on all others, X ≈ X W with a diagonal of zeros, and differ in the penalty, and so in
how they solve for W. X is the user-item matrix: 1 where a user has the item; with weights, the largest of
the pair as a share of the largest of all. A history scores item j by the sum of W_ij over its items i; with
``recency`` newer ones count more there, by the rule that the two-tower learns with. W is learnt from all
alike.

Shapes: B batch, I catalogue, J items that someone took, N interactions.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from recray.arrays import Float32s, Float64s
from recray.batch import QueryBatch
from recray.config import ConfigError
from recray.models.side_features import unlearnt_last
from recray.models.user_item import gram, history_matrix, shares, taken_matrix


class ItemWeights(nn.Module, ABC):
    """Retriever and WholeLearner (``recray.contract``). Needs no user id: a user is what it did.

    State: ``weights_II`` float32, row i what item i of a history says of all others; ``is_learnt_I`` bool:
    who took nothing is below all others. Scoring runs on the CPU.

    Raises:
        ConfigError: the catalogue is larger than ``max_items``.
    """

    reads_history = True
    weights_II: Tensor
    is_learnt_I: Tensor

    def __init__(self, num_items: int, recency: float, max_items: int) -> None:
        super().__init__()
        if num_items > max_items:
            raise ConfigError(
                f"{type(self).__name__} has a weight for each pair of items, of {num_items:,} items "
                f"{4 * num_items**2 / 2**30:.1f} GiB, and up to 4 times that while it learns: raise "
                f"model.max_items {max_items:,} if that fits, or take item_knn, which keeps the "
                "nearest items alone"
            )
        self.recency = recency
        self.register_buffer("weights_II", torch.zeros(num_items, num_items))
        self.register_buffer("is_learnt_I", torch.zeros(num_items, dtype=torch.bool))

    @abstractmethod
    def solved(self, gram_JJ: Float64s) -> Float64s | Float32s:
        """W of these products of items, Xᵀ X, whose memory may be used."""

    def learn(self, user_ids_N: Tensor, item_ids_N: Tensor, weights_N: Tensor | None = None) -> None:
        """Solves for the weights; a user's repeats count once, by the one that weighs most.

        Raises:
            DataError: an item id outside the catalogue or a negative user id.
        """
        taken = shares(taken_matrix(user_ids_N, item_ids_N, len(self.weights_II), weights_N))
        learnt_J = np.flatnonzero(np.bincount(taken.indices, minlength=taken.shape[1]))
        self.is_learnt_I.zero_()[torch.from_numpy(learnt_J)] = True
        self.weights_II.zero_()
        if len(learnt_J):
            of_learnt = taken[:, learnt_J]
            self.weights_II.numpy()[np.ix_(learnt_J, learnt_J)] = self.solved(gram(of_learnt))

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI, float32: sums of the history's rows, in which repeats count once."""
        history = history_matrix(queries.history, len(self.weights_II), self.recency)
        scores_BI = torch.from_numpy(history @ self.weights_II.cpu().numpy())
        return unlearnt_last(scores_BI.to(self.weights_II.device), self.is_learnt_I)
