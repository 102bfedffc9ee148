"""What may be asked of events, whoever holds them: all of it strictly before a moment."""

from typing import NamedTuple, Protocol

from recray.arrays import Int32s, Int64s
from recray.features.items import Columns, Items
from recray.features.overlap import Overlap
from recray.features.past import Past, UserPast


class UserEvents(NamedTuple):
    """What one user did, oldest first."""

    item_ids_H: Int32s
    times_H: Int64s  # unix seconds

    def since(self, time: float) -> Int32s:
        """Items from a moment on."""
        return self.item_ids_H[self.times_H >= time] if time > 0 else self.item_ids_H


class LookUps(Protocol):
    """A log (``log.EventLog``), or what makes it longer or shorter."""

    @property
    def num_users(self) -> int: ...
    @property
    def num_items(self) -> int: ...
    @property
    def items(self) -> Items: ...
    @property
    def columns(self) -> Columns: ...
    @property
    def end(self) -> int:
        """Unix seconds at which time stops: of what came then or later nothing is known."""

    @property
    def newest(self) -> int:
        """The second after the newest event, unix seconds: ``end``, but where time stood in between."""

    def items_before(self, item_ids_K: Int64s, time: int, until: int | None = None) -> Past: ...
    def mean_rating_before(self, time: int) -> float: ...
    def user_before(self, user_id: int, time: int, until: int | None = None) -> UserPast: ...
    def check_user(self, user_id: int) -> None: ...
    def seen_before(self, user_id: int, time: int, since: float = 0) -> Int32s:
        """Items of a user, also of events that came too late for ``events_before``; at ``since`` or later."""

    def events_before(self, user_id: int, time: int) -> UserEvents: ...
    def followers_before(self, item_id: int, time: int, item_ids_K: Int64s) -> tuple[Int64s, int]: ...
    def overlap(self, column: str) -> Overlap | None: ...
