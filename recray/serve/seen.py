"""Items that must not come back to a user: those excluded, and those seen, by what is to become of these."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recray.arrays import Int64s
from recray.features.look_ups import LookUps
from recray.serve.query import Query

DAY_S = 86_400


class Seen(NamedTuple):
    """What becomes of items that a user has seen."""

    keeps: bool = False  # they may come back, also those of a request's own history
    after_days: float | None = None  # they may once that is longer ago; None: never

    def removed(self, query: Query, log: LookUps | None) -> Int64s:
        """Items that must not be in the answer; those that the request names itself are always."""
        if self.keeps:
            return query.exclude_ids
        removed: list[npt.NDArray[np.integer[Any]]] = [query.exclude_ids]
        if query.history_ids is not None:
            removed.append(query.history_ids)
        if query.past is not None:
            removed.append(self._lately(query, *query.past))
        elif query.told is not None:
            removed.append(self._lately(query, *query.told))
        elif log is not None and 0 <= query.user_id < log.num_users:
            removed.append(log.seen_before(query.user_id, query.time, self._since(query)))
        return np.concatenate(removed, dtype=np.int64)

    def _lately(
        self, query: Query, item_ids_H: npt.NDArray[np.integer[Any]], times_H: Int64s
    ) -> npt.NDArray[np.integer[Any]]:
        return item_ids_H[times_H >= self._since(query)]

    def _since(self, query: Query) -> float:
        """Unix seconds: what was seen before may come back."""
        return 0.0 if self.after_days is None else query.time - self.after_days * DAY_S


REMOVED = Seen()
