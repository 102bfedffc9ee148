"""Items that must not be served, as things stand. Readers see the old state or the new one."""

import threading
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

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
    """What the conditions of one column allow; one of them is enough."""

    fields: tuple[str, ...]  # of the context, whose values are compared with the column
    of: Mapping[str, Int64s]  # rows of each value of the column
    always_I: Bools | None = None  # what the other conditions allow; None: there are none

    def said(self, context: Context) -> tuple[str, ...] | None:
        """Values of the column that a context names; None: it has none of the fields."""
        said = [as_text(context[name]) for name in self.fields if name in context]
        return tuple(value for value in said if value in self.of) if said else None

    def denied(self, said: tuple[str, ...] | None, num_items: int) -> Bools:
        if said is None and self.always_I is None:
            return np.zeros(num_items, bool)
        denied_I = np.ones(num_items, bool) if self.always_I is None else ~self.always_I
        for value in said or ():
            denied_I[self.of[value]] = False
        return denied_I


Said: TypeAlias = tuple[tuple[str, ...] | None, ...]
"""By a context, of each column with conditions."""


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
        """These items never, and of each column with conditions those of which none holds."""
        with self._lock:
            self._denied_I, self._allowed = mask_I, allowed
            self._set()

    def change(self, available: Mapping[int, bool]) -> None:
        """Whether each of some items can be had now, by its row."""
        with self._lock:
            self._told |= available
            self._set()

    @property
    def unavailable_I(self) -> Bools:
        """What cannot be had now, allowed or not; another array once that has changed."""
        return self._made.unavailable_I

    def of(self, context: Context) -> BarredNow:
        """For a request."""
        made = self._made
        said = tuple(one.said(context) for one in made.allowed)
        if (found := made.of.get(said)) is None:
            found = made.barred(said)
            if len(made.of) < MADE:
                made.of[said] = found
        return found

    def _set(self) -> None:
        unavailable_I = self._unavailable_I.copy()
        for row, can_be_had in self._told.items():
            unavailable_I[row] = not can_be_had
        self._made = _Made(unavailable_I, self._denied_I, self._allowed, {})
        self.now = self.of({})


class _Made(NamedTuple):
    """What holds until something changes."""

    unavailable_I: Bools
    denied_I: Bools
    allowed: tuple[Allowed, ...]
    of: dict[Said, BarredNow]  # made of it before

    def barred(self, said: Said) -> BarredNow:
        denied_I = self.denied_I
        for one, values in zip(self.allowed, said, strict=True):
            denied_I = denied_I | one.denied(values, len(denied_I))
        mask_I = self.unavailable_I | denied_I
        return BarredNow(mask_I, np.flatnonzero(mask_I), np.flatnonzero(denied_I))
