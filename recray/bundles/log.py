"""The event log inside a bundle: of a ranker, and of what answers without one."""

import polars as pl

from recray.features.items import item_features
from recray.features.log import EVENT_FILE, ITEM_FILE, EventLog
from recray.mapped import LARGE_BYTES, mapped
from recray.store.bundle import Bundle

LAYOUT = 1  # of the arrays of a log


def read_log(bundle: Bundle) -> EventLog:
    """The point-in-time event log of a bundle.

    Sorting a large one takes minutes, and many times its file in memory: that is done once on a machine.

    Raises:
        StoreError: it has none.
    """
    for file in (EVENT_FILE, ITEM_FILE):
        bundle.path(file)
    if bundle.manifest.files[EVENT_FILE].size_bytes < LARGE_BYTES:
        return EventLog.load(bundle.folder)
    events, items = (bundle.manifest.files[file].sha256[:16] for file in (EVENT_FILE, ITEM_FILE))
    arrays = mapped(f"log-{LAYOUT}-{events}-{items}", lambda: EventLog.load(bundle.folder).arrays())
    return EventLog.of_arrays(arrays, item_features(pl.read_parquet(bundle.folder / ITEM_FILE, glob=False)))
