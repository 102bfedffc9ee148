"""Keeps what an application was told, in order; whoever follows asks for what came after a number.

In memory: it is gone with the process that holds it.
"""

import threading
import uuid
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from recray.serve.events.told import Event, Gone, Told, id_of

MOST_KEPT = 1_000_000  # about 300 bytes each
MOST_AT_ONCE = 10_000  # of one answer


class Batch(NamedTuple):
    """What came after a number."""

    hub: str  # of another hub, numbers mean nothing
    upto: int  # ask for what came after this one next
    told: Sequence[Told]


class HubFullError(Exception):
    """No more is taken in until a version is published that has learnt what is kept."""


class Hub(Protocol):
    """Where replicas leave and find what they were told; may be in another process."""

    def append(self, told: Sequence[Told]) -> int:
        """Takes in what it does not keep yet, by its id; returns how many it did. Of a user who is gone no
        event is kept that came before.

        Raises:
            HubFullError: nothing of it was taken.
        """

    def after(self, number: int, hub: str) -> Batch:
        """What came after the first ``number`` of ``hub``, or the first part of it; of another hub, from the
        beginning."""


class LocalHub:
    """A hub in this process; thread-safe."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._name, self._most = uuid.uuid4().hex, most
        self._told: list[Told | None] = []  # None: of somebody who is gone
        self._ids: set[str] = set()  # of what is kept: no more than that
        self._lock = threading.Lock()

    def append(self, told: Sequence[Told]) -> int:
        with self._lock:
            new, ids = [], set[str]()
            for one in told:
                if isinstance(one, Gone):
                    self._forget(one.user_id)
                known = id_of(one)
                if known is None:
                    new.append(one)
                elif known not in self._ids and known not in ids:
                    ids.add(known)
                    new.append(one)
            if len(self._told) + len(new) > self._most:
                raise HubFullError(f"{len(self._told):,} of at most {self._most:,} are kept")
            self._told += new
            self._ids |= ids
            return len(new)

    def after(self, number: int, hub: str) -> Batch:
        first = number if hub == self._name else 0
        told = self._told[first : first + MOST_AT_ONCE]
        return Batch(self._name, first + len(told), [one for one in told if one is not None])

    def _forget(self, user_id: str) -> None:
        for place, one in enumerate(self._told):
            if isinstance(one, Event) and one.user_id == user_id:
                self._told[place] = None
                self._ids.discard(one.event_id)
