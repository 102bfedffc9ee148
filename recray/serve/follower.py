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
from recray.serve.memory import memory_for
from recray.serve.versions import ServedBundles, open_served, to_try
from recray.store import DamagedError, Reference, Store

log = logging.getLogger(__name__)

MESSAGE_LETTERS = 1_000
KEPT_S = 600.0  # what was replaced is kept for so long: most rollbacks come soon
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
        beside: a version that is loaded elsewhere in this process, if it is; it is not loaded again.
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
        beside: Callable[[Wanted], Loaded[T] | None] = lambda wanted: None,
        poll_s: float = 1.0,
    ) -> None:
        self._store, self._application, self._name = store, application, name
        self._second_source = second_source
        self._load, self._beside, self._poll_s = load, beside, poll_s
        self._before: tuple[Loaded[T], float] | None = None  # what served until then, monotonic time
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
        with memory_for(bundles, must_fit=self.loaded is not None):
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
        self._complain(f"the {self._name} version does not load: {said(first)}")
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
                self._complain(f"the store cannot be read: {said(error)}")
            return None

    def poll(self) -> None:
        """One look at the store; swaps ``current`` where the name moved. Never raises."""
        wanted = self._look()
        if wanted is None:
            return
        if self.loaded and wanted == versions_of(self.loaded.bundles):
            self.problem, self._failed = None, None
        elif self._failed is None or self._is_due(wanted):
            self._move_to(wanted)

    def _is_due(self, wanted: Wanted) -> bool:
        assert self._failed is not None
        return self._failed[0] != wanted or time.monotonic() - self._failed[1] > RETRY_S

    def _move_to(self, wanted: Wanted) -> None:
        version, beside = wanted
        try:
            loaded = self._at_hand(wanted) or self._loaded_anew(version)
        except Exception as error:  # whatever is wrong with a new version, the old one must go on
            self._failed = (wanted, time.monotonic())
            which = f"{version.version}"
            if beside:
                which += f" beside version {beside.version} of {self._second_source}"
            self._complain(f"version {which} does not load: {said(error)}")
            log.debug("loading %s", version, exc_info=True)
            return
        old, self.loaded = self.loaded, loaded
        self._before = (old, time.monotonic()) if old else None
        self.problem, self._failed = None, None
        log.info("now serving %s instead of %s", loaded.reference, old.reference if old else "nothing")

    def _loaded_anew(self, version: Reference) -> Loaded[T]:
        self._before = None  # two at a time are enough
        bundles = open_served(self._store, self._application, version.version, self._second_source)
        return self.load_version(bundles)

    def _at_hand(self, wanted: Wanted) -> Loaded[T] | None:
        """What served a while ago, or serves an experiment: to go back takes no time."""
        if self._before and versions_of(self._before[0].bundles) == wanted:
            return self._before[0]
        return self._beside(wanted)

    def _forget(self) -> None:
        if self._before and time.monotonic() - self._before[1] > KEPT_S:
            self._before = None

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            serving = f"still serving {self.loaded.reference}" if self.loaded else "nothing is served"
            log.error("%s; %s", problem, serving)
        self.problem = problem

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_s):
            self.poll()
            self._forget()


def versions_of(bundles: ServedBundles) -> Wanted:
    """By which two loads of the same are told from others."""
    beside = bundles.second_source
    return bundles.reference, beside.reference if beside else None


def said(error: Exception) -> str:
    """What happened, in one line of bounded length."""
    kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
    return f"{kind}{error}"[:MESSAGE_LETTERS]
