"""The store of trained versions: publish, open, promote, roll back."""

from recray.store.bundle import Bundle
from recray.store.manifest import BundleManifest, Reference, StoreError
from recray.store.store import Store

__all__ = ["Bundle", "BundleManifest", "Reference", "Store", "StoreError"]
