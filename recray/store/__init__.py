"""The store of trained versions: publish, open, promote, roll back."""

from recray.store.bundle import Bundle
from recray.store.draft import Draft
from recray.store.manifest import BundleManifest, DamagedError, Reference, StoreError
from recray.store.record import RunRecord, read_history, run_record
from recray.store.store import Store

__all__ = [
    "Bundle",
    "BundleManifest",
    "DamagedError",
    "Draft",
    "Reference",
    "RunRecord",
    "Store",
    "StoreError",
    "read_history",
    "run_record",
]
