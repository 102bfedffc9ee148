"""The event log inside a bundle: of a ranker, and of what answers without one."""

import polars as pl

from recray.features.log import EVENT_FILE, ITEM_FILE, EventLog
from recray.store.bundle import Bundle


def log_end(bundle: Bundle) -> int | None:
    """The second after its last event, unix seconds, without reading it all; None where it has none."""
    if EVENT_FILE not in bundle.manifest.files:
        return None
    newest: int | None = (
        pl.scan_parquet(bundle.path(EVENT_FILE), glob=False)
        .select(pl.col("timestamp").max())
        .collect()
        .item()
    )
    return None if newest is None else newest + 1


def read_log(bundle: Bundle) -> EventLog:
    """The point-in-time event log of a bundle.

    Raises:
        StoreError: it has none.
    """
    for file in (EVENT_FILE, ITEM_FILE):
        bundle.path(file)
    return EventLog.load(bundle.folder)
