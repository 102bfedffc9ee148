"""The event log inside a bundle: of a ranker, and of what answers without one."""

from recray.features.log import EVENT_FILE, ITEM_FILE, EventLog
from recray.store.bundle import Bundle


def read_log(bundle: Bundle) -> EventLog:
    """The point-in-time event log of a bundle.

    Raises:
        StoreError: it has none.
    """
    for file in (EVENT_FILE, ITEM_FILE):
        bundle.path(file)
    return EventLog.load(bundle.folder)
