"""What users did who are in no log, or which came too late for one.

Shapes: H events of a history.
"""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from recray.features.look_ups import UserEvents

User = TypeVar("User", str, int)


class Histories(Generic[User]):
    """By user. One thread adds, others ask: they see a history as it was or as it is."""

    def __init__(self) -> None:
        self._of: dict[User, UserEvents] = {}

    def copy(self) -> "Histories[User]":
        """The same, to be added to apart."""
        other = Histories[User]()
        other._of = dict(self._of)
        return other

    def add(self, events: Mapping[User, Sequence[tuple[int, int]]]) -> None:
        """(item, unix seconds) by user, in the order in which they were told."""
        for user, told in events.items():
            items_H, times_H = np.array(told, np.int64).T
            if before := self._of.get(user):
                items_H = np.concatenate([before.item_ids_H, items_H])
                times_H = np.concatenate([before.times_H, times_H])
            order_H = times_H.argsort(kind="stable")
            self._of[user] = UserEvents(items_H[order_H].astype(np.int32), times_H[order_H])

    def forget(self, user: User) -> None:
        self._of.pop(user, None)

    def before(self, user: User, time: int) -> UserEvents | None:
        """All that one did strictly before ``time``, oldest first; None for nothing."""
        history = self._of.get(user)
        count = 0 if history is None else int(history.times_H.searchsorted(time))
        return UserEvents(history.item_ids_H[:count], history.times_H[:count]) if history and count else None
