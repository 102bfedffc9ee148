"""How the labels of some items meet those of others, by weight: of a user's past and of candidates.

Sums are exact where the weights are multiples of a step that float64 holds, so both ways below, which
differ in speed only, give the same bits.

Shapes: H items of a past, K candidates, R kinds of weight, G labels, W labels of an item, I items.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from recray.arrays import Float64s
from recray.features.items import Labels

_Ids: TypeAlias = npt.NDArray[np.integer[Any]]
FEW_LABELS = 64  # up to so many a matrix product is several times faster than looking places up


class Overlap:
    """A column of labels, ready for many queries."""

    def __init__(self, labels: Labels) -> None:
        self.counts_I = (labels.places_IW > 0).sum(axis=1).astype(np.float64)
        self._num_places = 1 + len(labels.names)
        self._places_WI = np.ascontiguousarray(labels.places_IW.T, np.intp)
        self._is_IG: Float64s | None = None
        if len(labels.names) <= FEW_LABELS:
            # Float64 because integer matrices are multiplied without BLAS; entries are 0 and 1.
            is_IP = np.zeros((len(self.counts_I), self._num_places))
            is_IP[np.arange(len(is_IP))[:, None], labels.places_IW] = 1.0
            self._is_IG = is_IP[:, 1:].copy()
            self._places_WI = self._places_WI[:0]

    def shared(self, weights_RH: Float64s, item_ids_H: _Ids, item_ids_K: _Ids) -> Float64s:
        """shared_RK: the weights of the past items, once for each label that they share with a candidate."""
        if self._is_IG is not None:
            totals_RG = weights_RH @ self._is_IG.take(item_ids_H, axis=0)
            shared_RK: Float64s = totals_RG @ self._is_IG.take(item_ids_K, axis=0).T
            return shared_RK
        places_N = self._places_WI.take(item_ids_H, axis=1).ravel()
        weights_RN = np.tile(weights_RH, len(self._places_WI))
        totals_PR = np.empty((self._num_places, len(weights_RH)))
        for r, weights_N in enumerate(weights_RN):
            totals_PR[:, r] = np.bincount(places_N, weights_N, minlength=self._num_places)
        totals_PR[0] = 0.0  # no label
        shared_KR = np.zeros((len(item_ids_K), len(weights_RH)))
        for places_K in self._places_WI.take(item_ids_K, axis=1):
            shared_KR += totals_PR.take(places_K, axis=0)
        return shared_KR.T
