"""A log that counts as ended earlier: what a replica knows that is asked long after it was made."""

from recray.arrays import Int32s, Int64s
from recray.features.look_ups import LookUps, UserEvents
from recray.features.overlap import Overlap
from recray.features.past import Past, UserPast


class LogUntil:
    """Answers as a log would that had ended at ``end``, whatever is asked for later.

    Attributes:
        end: unix seconds; may be moved between two requests.
    """

    def __init__(self, log: LookUps, end: int | None = None) -> None:
        self._log = log
        self.num_users, self.num_items = log.num_users, log.num_items
        self.items, self.columns = log.items, log.columns
        self.end = log.end if end is None else end

    @property
    def newest(self) -> int:
        return self.end

    def items_before(self, item_ids_K: Int64s, time: int, until: int | None = None) -> Past:
        return self._log.items_before(item_ids_K, min(time, self.end), until)

    def mean_rating_before(self, time: int) -> float:
        return self._log.mean_rating_before(min(time, self.end))

    def user_before(self, user_id: int, time: int, until: int | None = None) -> UserPast:
        return self._log.user_before(user_id, min(time, self.end), until)

    def check_user(self, user_id: int) -> None:
        self._log.check_user(user_id)

    def seen_before(self, user_id: int, time: int, since: float = 0) -> Int32s:
        return self._log.seen_before(user_id, min(time, self.end), since)

    def events_before(self, user_id: int, time: int) -> UserEvents:
        return self._log.events_before(user_id, min(time, self.end))

    def followers_before(self, item_id: int, time: int, item_ids_K: Int64s) -> tuple[Int64s, int]:
        return self._log.followers_before(item_id, min(time, self.end), item_ids_K)

    def overlap(self, column: str) -> Overlap | None:
        return self._log.overlap(column)
