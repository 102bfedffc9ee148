"""Follows a name of the store: when it moves, the new version is loaded beside the old one and then swapped.

One attribute holds everything of a version. A request takes it once, so no answer mixes two versions.
A version that does not load leaves the old one serving, and says so; at the start, where there is no old
one, the last good one of the name's history serves.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from recray.config import ConfigError
from recray.serve.versions import ServedBundles, open_served, to_try
from recray.store import DamagedError, Reference, Store

log = logging.getLogger(__name__)

MESSAGE_LETTERS = 1_000
RETRY_S = 30.0  # a version that failed to load is tried again after so long: its files may still arrive

T = TypeVar("T")
Wanted = tuple[Reference, Reference | None]
"""Of the application, and of the decoder beside it: a store that is built again uses the same numbers."""


class NothingServedError(ConfigError):
    """No version is loaded; the message says why."""


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
        ConfigError, DataError: neither the first version nor an earlier one of the name can be loaded, for
            another reason than damage. After damage there is nothing to serve until the store is mended.
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
        self._failed: tuple[Wanted, float] | None = None  # versions, monotonic time of the attempt
        self._stop = threading.Event()
        self.loaded: Loaded[T] | None = None
        self._load_first()
        self._thread = threading.Thread(target=self._follow, name="follow-store", daemon=True)

    @property
    def current(self) -> Loaded[T]:
        """What serves.

        Raises:
            NothingServedError: nothing is loaded.
        """
        if self.loaded is None:
            raise NothingServedError(self.problem or "no version is loaded")
        return self.loaded

    def not_ready(self) -> str | None:
        """Why nobody should ask here: nothing is loaded, or the store is not followed. None: all is well."""
        if self.loaded is None:
            return self.problem or "no version is loaded"
        return (
            None
            if self._thread.is_alive()
            else "the store is not followed any more: start this replica again"
        )

    def start(self) -> None:
        """Begins to poll in the background."""
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def load_version(self, bundles: ServedBundles) -> Loaded[T]:
        return Loaded(bundles, self._load(bundles), datetime.now(UTC).isoformat(timespec="seconds"))

    def _load_first(self) -> None:
        """Loads what the name points at, or the last version it stood on that can be loaded."""
        first: Exception | None = None
        try:
            for version in to_try(self._store, self._application, self._name):
                try:
                    bundles = open_served(self._store, self._application, version, self._second_source)
                    self.loaded = self.load_version(bundles)
                    break
                except Exception as error:  # whatever is wrong with it, an earlier one may be whole
                    log.debug("loading %s of %s", version, self._application, exc_info=True)
                    first = first or error
        except DamagedError as error:  # of the promotions
            first = first or error
        if first is None:
            return
        if self.loaded is None and not isinstance(first, DamagedError):
            raise first
        self._complain(f"the {self._name} version does not load: {_said(first)}")
        if wanted := self._look():
            self._failed = (wanted, time.monotonic())

    def _look(self) -> Wanted | None:
        """What the name points at; None, with a ``problem``, where the store does not say."""
        try:
            wanted = self._store.open(self._application, self._name).reference
            second = self._second_source
            return wanted, self._store.open(second).reference if second else None
        except Exception as error:  # a look at a broken store must not end the thread that looks
            if self.loaded:
                self._complain(f"the store cannot be read: {_said(error)}")
            return None

    def poll(self) -> None:
        """One look at the store; swaps ``current`` where the name moved. Never raises."""
        wanted = self._look()
        if wanted is None:
            return
        if self.loaded and wanted == _versions(self.loaded.bundles):
            self.problem, self._failed = None, None
        elif self._failed is None or self._is_due(wanted):
            self._move_to(wanted)

    def _is_due(self, wanted: Wanted) -> bool:
        assert self._failed is not None
        return self._failed[0] != wanted or time.monotonic() - self._failed[1] > RETRY_S

    def _move_to(self, wanted: Wanted) -> None:
        version, beside = wanted
        try:
            bundles = open_served(self._store, self._application, version.version, self._second_source)
            loaded = self.load_version(bundles)
        except Exception as error:  # whatever is wrong with a new version, the old one must go on
            self._failed = (wanted, time.monotonic())
            which = f"{version.version}"
            if beside:
                which += f" beside version {beside.version} of {self._second_source}"
            self._complain(f"version {which} does not load: {_said(error)}")
            log.debug("loading %s", version, exc_info=True)
            return
        old, self.loaded = self.loaded, loaded
        self.problem, self._failed = None, None
        log.info("now serving %s instead of %s", loaded.reference, old.reference if old else "nothing")

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            serving = f"still serving {self.loaded.reference}" if self.loaded else "nothing is served"
            log.error("%s; %s", problem, serving)
        self.problem = problem

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_s):
            self.poll()


def _versions(bundles: ServedBundles) -> Wanted:
    beside = bundles.second_source
    return bundles.reference, beside.reference if beside else None


def _said(error: Exception) -> str:
    """What happened, in one line of bounded length."""
    kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
    return f"{kind}{error}"[:MESSAGE_LETTERS]
