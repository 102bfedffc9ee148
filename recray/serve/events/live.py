"""One version and what it was told since it was made, in its own rows."""

from collections.abc import Mapping, Sequence

import polars as pl

from recray.features.histories import Histories
from recray.features.live_log import LiveEvent, LiveLog
from recray.serve.barred import Barred
from recray.serve.events.feed import Feed
from recray.serve.events.told import Availability, Event, Told
from recray.serve.query import UNKNOWN_USER
from recray.serve.versions import OpenedVersion, ServedBundles


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

    def tell(self, told: Sequence[Told]) -> None:
        """Called by one thread at a time, while others ask."""
        known = [one for one in told if one.item_id in self._item_rows]
        if self._barred is not None:
            changes = {
                self._item_rows[one.item_id]: one.available for one in known if isinstance(one, Availability)
            }
            self._barred.change(changes)
        events = [one for one in known if isinstance(one, Event)]
        if self._log is not None and events:
            self._log.add([self._in_rows(event) for event in events])
        of_strangers: dict[str, list[tuple[int, int]]] = {}
        for event in events:
            if event.user_id is not None and event.user_id not in self._user_rows:
                done = self._item_rows[event.item_id], event.time
                of_strangers.setdefault(event.user_id, []).append(done)
        self.strangers.add(of_strangers)

    def _in_rows(self, event: Event) -> LiveEvent:
        user = UNKNOWN_USER if event.user_id is None else self._user_rows.get(event.user_id, UNKNOWN_USER)
        return LiveEvent(user, self._item_rows[event.item_id], event.rating, event.time)


def opened(bundles: ServedBundles, feed: Feed | None) -> OpenedVersion:
    """A version whose log goes on where there is a feed."""
    return OpenedVersion(bundles, LiveLog) if feed else OpenedVersion(bundles)


def listening(
    feed: Feed, version: OpenedVersion, rows: tuple[Mapping[str, int], Mapping[str, int]] | None = None
) -> LiveVersion:
    """What is told of a version from now on; it stops when nobody holds it any more.

    Args:
        rows: of the raw ids of users and of items, where they are at hand.
    """
    users, items = rows or map(rows_of, version.catalogue)
    log = version.event_log
    live = LiveVersion(users, items, log if isinstance(log, LiveLog) else None, version.barred)
    feed.attach(live)
    return live


def rows_of(frame: pl.DataFrame) -> dict[str, int]:
    """The row of each raw id."""
    return {raw: row for row, raw in enumerate(frame["raw_id"].cast(pl.String).to_list())}
