"""Follows a name of the store: when it moves, the new version is loaded beside the old one and then swapped.

One attribute holds everything of a version. A request takes it once, so no answer mixes two versions.
A version that does not load leaves the old one serving, and says so.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from recray.config import ConfigError
from recray.serve.versions import ServedBundles, open_served
from recray.store import Reference, Store

log = logging.getLogger(__name__)

RETRY_S = 30.0  # a version that failed to load is tried again after so long: its files may still arrive

T = TypeVar("T")
Versions = tuple[int, int | None]
"""Of the application, and of the decoder beside it."""


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A version that is ready to serve."""

    bundles: ServedBundles
    content: T
    loaded_at: str  # ISO 8601, UTC

    @property
    def reference(self) -> Reference:
        return self.bundles.reference


class Follower(Generic[T]):
    """Keeps ``current`` at what a name of the store points at.

    Args:
        load: makes what serves out of the bundles; runs in the background thread.
        second_source: a decoder beside the application, whose production version is followed as well.
        poll_s: seconds between two looks at the store.
    Raises:
        ConfigError, DataError: the first version cannot be loaded; later ones only make a ``problem``.
    """

    def __init__(
        self,
        store: Store,
        application: str,
        load: Callable[[ServedBundles], T],
        *,
        name: str = "production",
        second_source: str = "",
        poll_s: float = 1.0,
    ) -> None:
        self._store, self._application, self._name = store, application, name
        self._second_source = second_source
        self._load, self._poll_s = load, poll_s
        self.problem: str | None = None
        self._failed: tuple[Versions, float] | None = None  # versions, monotonic time of the attempt
        self._stop = threading.Event()
        self.current: Loaded[T] = self.load_version(open_served(store, application, name, second_source))
        self._thread = threading.Thread(target=self._follow, name="follow-store", daemon=True)

    def start(self) -> None:
        """Begins to poll in the background."""
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def load_version(self, bundles: ServedBundles) -> Loaded[T]:
        return Loaded(bundles, self._load(bundles), datetime.now(UTC).isoformat(timespec="seconds"))

    def poll(self) -> None:
        """One look at the store; swaps ``current`` where the name moved. Never raises."""
        try:
            version = self._store.open(self._application, self._name).manifest.version
            second = self._second_source
            beside = self._store.open(second).manifest.version if second else None
        except (ConfigError, OSError) as error:
            self._complain(f"the store cannot be read: {error}")
            return
        wanted = (version, beside)
        if wanted == _versions(self.current.bundles):
            self.problem, self._failed = None, None
        elif self._failed is None or self._is_due(wanted):
            self._move_to(wanted)

    def _is_due(self, wanted: Versions) -> bool:
        assert self._failed is not None
        return self._failed[0] != wanted or time.monotonic() - self._failed[1] > RETRY_S

    def _move_to(self, wanted: Versions) -> None:
        version, beside = wanted
        try:
            bundles = open_served(self._store, self._application, version, self._second_source)
            loaded = self.load_version(bundles)
        except Exception as error:  # whatever is wrong with a new version, the old one must go on
            self._failed = (wanted, time.monotonic())
            which = f"{version} beside version {beside} of {self._second_source}" if beside else f"{version}"
            self._complain(f"version {which} does not load: {type(error).__name__}: {error}")
            log.debug("loading version %d", version, exc_info=True)
            return
        old, self.current = self.current, loaded
        self.problem, self._failed = None, None
        log.info("now serving %s instead of %s", loaded.reference, old.reference)

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s; still serving %s", problem, self.current.reference)
        self.problem = problem

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_s):
            self.poll()


def _versions(bundles: ServedBundles) -> Versions:
    beside = bundles.second_source
    return bundles.reference.version, beside.reference.version if beside else None
