"""Items that must not be served, as things stand. Readers see the old state or the new one."""

import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from recray.arrays import Bools, Int64s
from recray.features.ranking.context import as_text
from recray.features.request import Context

MADE = 64  # contexts whose items are kept


class BarredNow(NamedTuple):
    mask_I: Bools
    ids: Int64s
    denied_ids: Int64s  # those of them that are not allowed, whether they can be had or not


class Allowed(NamedTuple):
    """Items that a field of the request's context allows: rows ``of[value]``; of another value, none."""

    field: str
    of: Mapping[str, Int64s]

    def denied(self, value: str, num_items: int) -> Bools:
        denied_I = np.ones(num_items, bool)
        denied_I[self.of.get(value, [])] = False
        return denied_I


class Barred:
    """What cannot be had or is not allowed. May be changed by several threads while others read ``now`` and
    ``of``.

    What is told of availability goes before what the catalogue says, in whichever order the two come; what is
    denied stays so, whatever is told.
    """

    def __init__(self, num_items: int) -> None:
        self._unavailable_I = self._denied_I = np.zeros(num_items, bool)
        self._told, self._allowed = dict[int, bool](), tuple[Allowed, ...]()
        self._lock = threading.Lock()
        self._set()

    def bar(self, mask_I: Bools) -> None:
        """These items cannot be had either, by the catalogue."""
        with self._lock:
            self._unavailable_I = self._unavailable_I | mask_I
            self._set()

    def deny(self, mask_I: Bools, allowed: tuple[Allowed, ...] = ()) -> None:
        """These items never, and those that a request's context does not allow.

        Args:
            allowed: where a request's context has the field.
        """
        with self._lock:
            self._denied_I, self._allowed = mask_I, allowed
            self._set()

    def change(self, available: Mapping[int, bool]) -> None:
        """Whether each of some items can be had now, by its row."""
        with self._lock:
            self._told |= available
            self._set()

    def of(self, context: Context) -> BarredNow:
        """For a request."""
        now, made = self._made
        asked = tuple(as_text(context[one.field]) if one.field in context else None for one in self._allowed)
        if not any(value is not None for value in asked):
            return now
        if (found := made.get(asked)) is not None:
            return found
        denied_I = self._denied_I
        for one, value in zip(self._allowed, asked, strict=True):
            if value is not None:
                denied_I = denied_I | one.denied(value, len(denied_I))
        found = _barred(now.mask_I, denied_I)
        if len(made) < MADE:
            made[asked] = found
        return found

    def _set(self) -> None:
        made: dict[tuple[str | None, ...], BarredNow] = {}
        unavailable_I = self._unavailable_I.copy()
        for row, can_be_had in self._told.items():
            unavailable_I[row] = not can_be_had
        self.now = _barred(unavailable_I, self._denied_I)
        self._made = self.now, made


def _barred(unavailable_I: Bools, denied_I: Bools) -> BarredNow:
    mask_I = unavailable_I | denied_I
    return BarredNow(mask_I, np.flatnonzero(mask_I), np.flatnonzero(denied_I))
