"""A store for what is tried: nothing of it stays unless somebody publishes it."""

import tempfile
from pathlib import Path

from recray.store.bundle import Bundle
from recray.store.manifest import Reference, StoreError
from recray.store.store import Store


class Drafts(Store):
    """What is not yet published: a folder that goes with it. What it builds on is in the store."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="recray-", ignore_cleanup_errors=True)
        super().__init__(Path(self._folder.name))
        self.published = "%s is ready; publish() puts it into the store"

    def resolve(self, reference: Reference) -> Bundle:
        try:
            return super().resolve(reference)
        except StoreError:
            return Store().resolve(reference)
