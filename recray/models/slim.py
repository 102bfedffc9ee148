"""SLIM: few weights from a history to each item, none of them negative.

Ning & Karypis, SLIM: Sparse Linear Methods for Top-N Recommender Systems, ICDM 2011,
https://doi.org/10.1109/ICDM.2011.134. The weights W of the model, of the products of users' items X
(``item_weights``), minimise (equation 3)

    ½ |X - X W|² + ½ l2 |W|² + l1 |W|₁   with W ≥ 0 and a diagonal of zeros

a column at a time (equation 4) by coordinate descent on Xᵀ X (``ops.slim_loops``), so that users do not
count once that is made.

Shapes: J items that someone took.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from recray.arrays import Float32s, Float64s
from recray.config import ConfigError
from recray.models.item_weights import ItemWeights
from recray.schema import FeatureSchema

_TOLERANCE = 1e-5  # of a weight, from one sweep to the next
_SHARES = 64  # that the columns are dealt out in to threads


@dataclass(frozen=True, kw_only=True)
class SLIMConfig:
    """The elastic net, and how a history is read."""

    l1: float = 3.0
    """Of the weights: an item has none from items with which it shares fewer users."""
    l2: float = 100.0
    """Of their squares, in users as well."""
    sweeps: int = 100
    """Times that the weights of an item are gone over, at most; fewer where they stand still."""
    recency: float = 0.0
    """Newer items of a history count more: weight 0.1 + exp(-newer ones / recency); 0: all alike. Off where
    what is held out does not come later."""
    max_items: int = 30_000
    """Larger catalogues are refused: the weights take 4 bytes for each pair of items, learning them 16."""

    def __post_init__(self) -> None:
        if min(self.l1, self.l2) <= 0:
            raise ConfigError(f"l1 and l2 must be above 0, got {self.l1} and {self.l2}")
        if self.sweeps < 1:
            raise ConfigError(f"sweeps must be at least 1, got {self.sweeps}")
        if self.recency < 0:
            raise ConfigError(f"recency must not be negative, got {self.recency}")


class SLIM(ItemWeights):
    """See ``ItemWeights``."""

    def __init__(self, config: SLIMConfig, schema: FeatureSchema) -> None:
        super().__init__(schema.num_items, config.recency, config.max_items)
        self.config = config

    def solved(self, gram_JJ: Float64s) -> Float32s:
        """By coordinate descent; the same whatever the number of threads."""
        # Compiled code takes its time to load, which who only serves does without.
        from recray.ops.slim_loops import descend

        c, num_items = self.config, len(gram_JJ)
        weights_JJ = np.zeros((num_items, num_items), np.float32)
        cuts = np.linspace(0, num_items, min(num_items, _SHARES) + 1).astype(int).tolist()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            shares = [
                pool.submit(descend, gram_JJ, first, last, c.l1, c.l2, c.sweeps, _TOLERANCE, weights_JJ)
                for first, last in itertools.pairwise(cuts)
            ]
            for share in shares:
                share.result()
        return weights_JJ


MODEL = SLIM
