"""One version and what it was told since it was made, in its own rows."""

from collections.abc import Mapping, Sequence

from recray.event_log.records import WANTED
from recray.features.histories import Histories
from recray.features.live_log import LiveEvent, LiveLog
from recray.serve.barred import Barred
from recray.serve.events.feed import Feed
from recray.serve.events.told import Availability, Event, Gone, Told, without
from recray.serve.query import UNKNOWN_USER
from recray.serve.versions import OpenedVersion, ServedBundles

NOTHING = frozenset[int]()


class LiveVersion:
    """Listens to a feed for one version.

    Users whom the version does not know have a history here, as if each request brought it along.

    Args:
        user_rows, item_rows: of raw ids.
        log: what its stages look into; None where they have none here.
        barred: what its stages leave out.
    """

    def __init__(
        self,
        user_rows: Mapping[str, int],
        item_rows: Mapping[str, int],
        log: LiveLog | None = None,
        barred: Barred | None = None,
    ) -> None:
        self._user_rows, self._item_rows = user_rows, item_rows
        self._log, self._barred = log, barred
        self.strangers = Histories[str]()
        self._available: dict[int, bool] = {}  # as told, by row
        self._dismissed: dict[str, frozenset[int]] = {}  # item rows, by raw user id
        self._waiting: list[Told] = []  # of items that are not known here, or not yet

    def tell(self, told: Sequence[Told]) -> None:
        """Called by one thread at a time, while others ask."""
        for gone in (one for one in told if isinstance(one, Gone)):
            self._forget(gone.user_id)
        of_items = [one for one in told if not isinstance(one, Gone)]
        known = [one for one in of_items if one.item_id in self._item_rows]
        self._waiting += [one for one in of_items if one.item_id not in self._item_rows]
        changes = {
            self._item_rows[one.item_id]: one.available for one in known if isinstance(one, Availability)
        }
        if changes:
            self._available |= changes
        if self._barred is not None:
            self._barred.change(changes)
        for event in (one for one in known if isinstance(one, Event) and one.kind == "dismissal"):
            self._dismiss(event)
        events = [one for one in known if isinstance(one, Event) and one.kind in WANTED]
        if self._log is not None and events:
            self._log.add([self._in_rows(event) for event in events])
        of_strangers: dict[str, list[tuple[int, int]]] = {}
        for event in events:
            if event.user_id is not None and event.user_id not in self._user_rows:
                done = self._item_rows[event.item_id], int(event.at)
                of_strangers.setdefault(event.user_id, []).append(done)
        self.strangers.add(of_strangers)

    def take_over(self, before: "LiveVersion") -> None:
        """Knows what was told of the same version before it was extended; what waited for new items follows.

        Neither is told anything meanwhile; the one before may still be asked.
        """
        if self._log is not None and before._log is not None:
            self._log.take_over(before._log)
        self.strangers, self._available = before.strangers.copy(), dict(before._available)
        self._dismissed = dict(before._dismissed)
        if self._barred is not None:
            self._barred.change(self._available)
        self.tell(before._waiting)

    def dismissed_by(self, user_id: str) -> frozenset[int]:
        """Items that a user does not want to see again, by row."""
        return self._dismissed.get(user_id, NOTHING)

    def _dismiss(self, event: Event) -> None:
        if event.user_id is not None:
            item = self._item_rows[event.item_id]
            self._dismissed[event.user_id] = self.dismissed_by(event.user_id) | {item}

    def _forget(self, user_id: str) -> None:
        self.strangers.forget(user_id)
        self._dismissed.pop(user_id, None)
        self._waiting = without(self._waiting, user_id)
        if self._log is not None and user_id in self._user_rows:
            self._log.forget(self._user_rows[user_id])

    def _in_rows(self, event: Event) -> LiveEvent:
        user = UNKNOWN_USER if event.user_id is None else self._user_rows.get(event.user_id, UNKNOWN_USER)
        return LiveEvent(user, self._item_rows[event.item_id], event.rating, int(event.at))


def opened(bundles: ServedBundles, feed: Feed | None) -> OpenedVersion:
    """A version whose log goes on where there is a feed."""
    return OpenedVersion(bundles, LiveLog) if feed else OpenedVersion(bundles)


def live_version(version: OpenedVersion) -> LiveVersion:
    """What is told of a version goes where its stages look."""
    log = version.event_log
    live_log = log if isinstance(log, LiveLog) else None
    return LiveVersion(version.user_rows, version.item_rows, live_log, version.barred)
