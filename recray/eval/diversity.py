"""How unlike each other the items of one list are.

Shapes: S items of one list, D vector dim, I items.
"""

import numpy as np

from recray.arrays import Float32s, Int64s


class Diversity:
    """Intra-list diversity: the mean cosine distance of the pairs of a list.

    1 minus the intra-list similarity of Ziegler et al. (Improving Recommendation Lists Through Topic
    Diversification, WWW 2005), averaged over pairs as in Zhang & Hurley (Avoiding Monotony, RecSys 2008).

    Args:
        item_ID: what tells how alike items are; a vector of zeros is as far from all others as a right angle.
    """

    def __init__(self, item_ID: Float32s) -> None:
        lengths_I1 = np.linalg.norm(item_ID, axis=1, keepdims=True)
        self._unit_ID = item_ID / np.maximum(lengths_I1, np.finfo(np.float32).tiny)

    def of(self, item_ids_S: Int64s) -> float:
        """Between 0, all alike, and 2; 0 of fewer than two items."""
        size = len(item_ids_S)
        if size < 2:
            return 0.0
        unit_SD = self._unit_ID[item_ids_S].astype(np.float64)
        total, own = np.square(unit_SD.sum(axis=0)).sum(), np.square(unit_SD).sum()
        return float(1.0 - (total - own) / (size * (size - 1)))
