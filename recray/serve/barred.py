"""Items that must not be served, as things stand. Readers see the old state or the new one."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from recray.arrays import Bools, Int64s


class BarredNow(NamedTuple):
    mask_I: Bools
    ids: Int64s


class Barred:
    """May be changed by one thread while others read ``now``."""

    def __init__(self, num_items: int) -> None:
        self.now = BarredNow(np.zeros(num_items, bool), np.empty(0, np.int64))

    def bar(self, mask_I: Bools) -> None:
        """These items too."""
        self._set(self.now.mask_I | mask_I)

    def change(self, available: Mapping[int, bool]) -> None:
        """Whether each of some items can be had now, by its row."""
        mask_I = self.now.mask_I.copy()
        for row, can_be_had in available.items():
            mask_I[row] = not can_be_had
        self._set(mask_I)

    def _set(self, mask_I: Bools) -> None:
        self.now = BarredNow(mask_I, np.flatnonzero(mask_I))
