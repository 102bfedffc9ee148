"""What users did whom a version does not know.

Shapes: H events of a history.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from recray.serve.query import History


class Strangers:
    """Histories by raw user id. One thread adds, others ask: they see a history as it was or as it is."""

    def __init__(self) -> None:
        self._histories: dict[str, History] = {}

    def add(self, events: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """(item, unix seconds) by user, in the order in which they were told."""
        for user, told in events.items():
            new = History(*np.array(told, np.int64).T)
            if before := self._histories.get(user):
                new = History(*(np.concatenate(both) for both in zip(before, new, strict=True)))
            order_H = new.times_H.argsort(kind="stable")
            self._histories[user] = History(new.item_ids_H[order_H], new.times_H[order_H])

    def before(self, user: str, time: int) -> History | None:
        """All that one did strictly before ``time``, oldest first; None for nothing."""
        history = self._histories.get(user)
        count = 0 if history is None else int(history.times_H.searchsorted(time))
        return History(history.item_ids_H[:count], history.times_H[:count]) if history and count else None
