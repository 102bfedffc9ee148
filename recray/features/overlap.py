"""How the labels of some items meet those of others, by weight: of a user's past and of candidates.

Sums are exact where the weights are multiples of a step that float64 holds, whatever the order of addition.

Shapes: H items of a past, K candidates, R kinds of weight, W labels of an item, I items.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from recray.arrays import Float64s
from recray.features.items import Labels
from recray.ops import look_ups as loops

_Ids: TypeAlias = npt.NDArray[np.integer[Any]]


class Overlap:
    """A column of labels, ready for many queries."""

    def __init__(self, labels: Labels) -> None:
        self._places_IW = np.ascontiguousarray(labels.places_IW, np.int32)
        self._num_places = 1 + len(labels.names)
        self.counts_I = (labels.places_IW > 0).sum(axis=1).astype(np.float64)

    def shared(self, weights_RH: Float64s, item_ids_H: _Ids, item_ids_K: _Ids) -> Float64s:
        """shared_RK: the weights of the past items, once for each label that they share with a candidate."""
        ids_H, ids_K = (np.ascontiguousarray(ids, np.int64) for ids in (item_ids_H, item_ids_K))
        shared_RK: Float64s = loops.shared(self._places_IW, self._num_places, weights_RH, ids_H, ids_K)
        return shared_RK
