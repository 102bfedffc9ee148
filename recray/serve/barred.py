"""Items that must not be served, as things stand. Readers see the old state or the new one."""

import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from recray.arrays import Bools, Int64s


class BarredNow(NamedTuple):
    mask_I: Bools
    ids: Int64s


class Barred:
    """What a catalogue says cannot be had, but for those of which something else was told since, in whichever
    order the two come. May be changed by several threads while others read ``now``."""

    def __init__(self, num_items: int) -> None:
        self._mask_I, self._told = np.zeros(num_items, bool), dict[int, bool]()
        self.now = BarredNow(self._mask_I, np.empty(0, np.int64))
        self._lock = threading.Lock()

    def bar(self, mask_I: Bools) -> None:
        """These items too, by the catalogue."""
        with self._lock:
            self._mask_I = self._mask_I | mask_I
            self._set()

    def change(self, available: Mapping[int, bool]) -> None:
        """Whether each of some items can be had now, by its row."""
        with self._lock:
            self._told |= available
            self._set()

    def _set(self) -> None:
        mask_I = self._mask_I.copy()
        for row, can_be_had in self._told.items():
            mask_I[row] = not can_be_had
        self.now = BarredNow(mask_I, np.flatnonzero(mask_I))
