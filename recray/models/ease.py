"""EASE: the linear map from a history to what else its user takes, in closed form.

Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, https://arxiv.org/abs/1905.03375.
The weights B of the model, of the products of users' items X (``item_weights``), minimise

    |X - X B|² + l2 |B|²   with a diagonal of zeros:   P = (Xᵀ X + l2 1)⁻¹,  B_ij = -P_ij / P_jj  (equation 8)

Shapes: J items that someone took.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from recray.arrays import Float64s
from recray.config import ConfigError
from recray.models.item_weights import ItemWeights
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


class EASE(ItemWeights):
    """See ``ItemWeights``."""

    def __init__(self, config: EASEConfig, schema: FeatureSchema) -> None:
        super().__init__(schema.num_items, config.recency, config.max_items)
        self.l2 = config.l2

    def solved(self, gram_JJ: Float64s) -> Float64s:
        """In closed form."""
        return _solved(gram_JJ, self.l2)


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
