"""EASE: the linear map from a history to what else its user takes, in closed form.

Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, https://arxiv.org/abs/1905.03375.
X is the user-item matrix: 1 where a user has the item; with weights, the largest of the pair as a share of
the largest of all. The weights B of the model minimise

    |X - X B|² + l2 |B|²   with a diagonal of zeros:   P = (Xᵀ X + l2 1)⁻¹,  B_ij = -P_ij / P_jj  (equation 8)

A history scores item j by the sum of B_ij over its items i. With ``recency`` newer ones count more there, by
the rule that the two-tower learns with; B is learnt from all alike.

Shapes: B batch, I catalogue, J items that someone took, N interactions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import lapack
from torch import Tensor, nn

from recray.arrays import Float64s
from recray.batch import QueryBatch
from recray.config import ConfigError
from recray.models.side_features import unlearnt_last
from recray.models.user_item import gram, history_matrix, shares, taken_matrix
from recray.schema import FeatureSchema

_ROWS = 512  # mirrored at a time


@dataclass(frozen=True, kw_only=True)
class EASEConfig:
    """The one regularisation, and how a history is read."""

    l2: float = 300.0
    """Of the weights; more where items have few users."""
    recency: float = 0.0
    """Newer items of a history count more: weight 0.1 + exp(-newer ones / recency); 0: all alike. Off where
    what is held out does not come later."""
    max_items: int = 30_000
    """Larger catalogues are refused: the weights take 4 bytes for each pair of items, learning them 12."""

    def __post_init__(self) -> None:
        if not self.l2 > 0:
            raise ConfigError(f"l2 must be above 0, got {self.l2}")
        if self.recency < 0:
            raise ConfigError(f"recency must not be negative, got {self.recency}")


class EASE(nn.Module):
    """Retriever and WholeLearner (``recray.contract``). Needs no user id: a user is what it did.

    State: ``weights_II`` float32, row i what item i of a history says of all others; ``is_learnt_I`` bool:
    who took nothing is below all others. Scoring runs on the CPU.

    Raises:
        ConfigError: the catalogue is larger than ``max_items``.
    """

    reads_history = True
    weights_II: Tensor
    is_learnt_I: Tensor

    def __init__(self, config: EASEConfig, schema: FeatureSchema) -> None:
        super().__init__()
        num_items = schema.num_items
        if num_items > config.max_items:
            raise ConfigError(
                f"EASE has a weight for each pair of items, of {num_items:,} items "
                f"{4 * num_items**2 / 2**30:.1f} GiB, and 3 times that while it learns: raise "
                f"model.max_items {config.max_items:,} if that fits, or take item_knn, which keeps the "
                "nearest items alone"
            )
        self.recency = config.recency
        self.l2 = config.l2
        self.register_buffer("weights_II", torch.zeros(num_items, num_items))
        self.register_buffer("is_learnt_I", torch.zeros(num_items, dtype=torch.bool))

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
            self.weights_II.numpy()[np.ix_(learnt_J, learnt_J)] = _solved(gram(of_learnt), self.l2)

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI, float32: sums of the history's rows, in which repeats count once."""
        history = history_matrix(queries.history, len(self.weights_II), self.recency)
        scores_BI = torch.from_numpy(history @ self.weights_II.cpu().numpy())
        return unlearnt_last(scores_BI.to(self.weights_II.device), self.is_learnt_I)


def _solved(gram_JJ: Float64s, l2: float) -> Float64s:
    """B of equation 8, in the memory of Xᵀ X."""
    np.fill_diagonal(gram_JJ, gram_JJ.diagonal() + l2)
    factor_JJ, failed = lapack.dpotrf(gram_JJ.T, lower=True, overwrite_a=True)
    assert not failed, "Xᵀ X + l2 1 is positive definite"
    weights_JJ: Float64s = lapack.dpotri(factor_JJ, lower=True, overwrite_c=True)[0]
    for start in range(0, len(weights_JJ), _ROWS):  # the upper half, which LAPACK leaves alone
        stop = start + _ROWS
        square = weights_JJ[start:stop, start:stop]
        square[:] = np.tril(square) + np.tril(square, -1).T
        weights_JJ[start:stop, stop:] = weights_JJ[stop:, start:stop].T
    weights_JJ /= -weights_JJ.diagonal().copy()
    np.fill_diagonal(weights_JJ, 0)
    return weights_JJ


MODEL = EASE
