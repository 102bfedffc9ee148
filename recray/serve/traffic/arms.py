"""The versions of running experiments, each loaded for itself beside what serves.

One attribute holds all that a request needs; it is replaced in one assignment.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from recray.serve.follower import RETRY_S, Loaded, Wanted, said, versions_of
from recray.serve.memory import memory_for
from recray.serve.versions import ServedBundles, open_served
from recray.store import Store, StoreError
from recray.store.experiments import Arm, Experiment, Running
from recray.store.ledger import TrafficLedger

log = logging.getLogger(__name__)

ENDED_S = 10.0  # whoever follows names has seen by then what ended an experiment

T = TypeVar("T")
Key: TypeAlias = tuple[str, str]
"""The salt of an experiment, and the name of an arm of it: even of one version, each arm loads its own, so
that a canary is compared with what began when it did."""


class Route(NamedTuple, Generic[T]):
    """Which arm of which experiment a request goes to."""

    experiment: Experiment
    arm: Arm
    loaded: Loaded[T]


@dataclass(frozen=True)
class Serving(Generic[T]):
    """What can be asked now: of each experiment all arms, or none."""

    running: tuple[Running, ...] = ()
    loaded: dict[Key, Loaded[T]] = field(default_factory=dict)

    def route(self, user: str, now: float) -> Route[T] | None:
        """None: production answers. Where two groups ask a user, the experiment that began first has it."""
        for one in self.running:
            if one.experiment.is_shown and (arm := one.asks(user, now)):
                return self.of(one.experiment, arm)
        return None

    def shadows(self, user: str, now: float) -> list[Route[T]]:
        """Who is asked as well, and not shown."""
        hidden = [one for one in self.running if not one.experiment.is_shown]
        return [self.of(one.experiment, arm) for one in hidden if (arm := one.asks(user, now))]

    def of(self, experiment: Experiment, arm: Arm) -> Route[T]:
        return Route(experiment, arm, self.loaded[experiment.salt, arm.name])


class Arms(Generic[T]):
    """Follows the experiments of an application.

    Args:
        load: makes what serves out of the bundles; runs in a background thread of its own.
        second_source: a decoder beside the application, as production has it.
        poll_s: seconds between two looks at the journal.
    """

    def __init__(
        self,
        store: Store,
        application: str,
        load: Callable[[ServedBundles], T],
        *,
        second_source: str = "",
        poll_s: float = 1.0,
    ) -> None:
        self._store, self._application, self._second_source = store, application, second_source
        self._load, self._poll_s = load, poll_s
        self._ledger = TrafficLedger(store, application)
        self._loaded: dict[Key, Loaded[T]] = {}
        self._ended: list[tuple[Loaded[T], float]] = []  # and the monotonic time of that
        self._failed: dict[Key, tuple[str, float]] = {}  # why, and the monotonic time of the attempt
        self._unread: str | None = None
        self._running: tuple[Running, ...] = ()  # as the journal says
        self._wanted: dict[Key, Arm] = {}  # of those
        self._lock = threading.Lock()  # one look, or one arm that is there, at a time
        self._stop, self._to_load = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self.serving: Serving[T] = Serving()

    def start(self) -> None:
        """Follows in one thread and loads in another: what ends or is paused meanwhile is seen at once."""
        for work, name in ((self._follow, "follow-traffic"), (self._load_all, "load-arms")):
            self._threads.append(threading.Thread(target=work, name=name, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        self._stop.set()
        self._to_load.set()

    @property
    def problem(self) -> str | None:
        """What keeps an experiment from being as the journal says."""
        if not self._stop.is_set() and not all(thread.is_alive() for thread in self._threads):
            return "experiments are not followed any more: start this replica again"
        return self._unread or next((why for why, _ in self._failed.values()), None)

    def find(self, wanted: Wanted) -> Loaded[T] | None:
        """What serves of a version already, or did until a moment ago: a promotion ends its experiment."""
        at_hand = [*self._loaded.values(), *(one for one, _ in self._ended)]
        return next((one for one in at_hand if versions_of(one.bundles) == wanted), None)

    def look(self) -> None:
        """One look at the journal. Never raises."""
        try:
            running = self._ledger.now().running
        except Exception as error:  # a look at a broken store must not end the thread that looks
            self._unread = (
                f"the traffic of {self._application} cannot be read, what was known stands: {error}"
            )
            return
        self._unread = None
        wanted = {(one.experiment.salt, arm.name): arm for one in running for arm in one.experiment.arms}
        now = time.monotonic()
        with self._lock:
            self._running, self._wanted = running, wanted
            self._failed = {key: failed for key, failed in self._failed.items() if key in wanted}
            self._ended = [(one, at) for one, at in self._ended if now - at < ENDED_S]
            self._ended += [(one, now) for key, one in self._loaded.items() if key not in wanted]
            self._loaded = {key: one for key, one in self._loaded.items() if key in wanted}
            self._serve()
        self._to_load.set()

    def load_due(self) -> None:
        """Loads what is wanted and not there, one arm after the other. Never raises."""
        while not self._stop.is_set():
            missing = [one for one in self._wanted.items() if one[0] not in self._loaded]
            due = next(((key, arm) for key, arm in missing if self._is_due(key)), None)
            if due is None:
                return
            self._load_arm(*due)

    def _serve(self) -> None:
        whole = tuple(
            one
            for one in self._running
            if all((one.experiment.salt, arm.name) in self._loaded for arm in one.experiment.arms)
        )
        self.serving = Serving(whole, self._loaded)

    def _is_due(self, key: Key) -> bool:
        return key not in self._failed or time.monotonic() - self._failed[key][1] > RETRY_S

    def _load_arm(self, key: Key, arm: Arm) -> None:
        try:
            version = arm.reference.version
            bundles = open_served(self._store, arm.reference.name, version, self._second_source)
            if bundles.reference != arm.reference:
                raise StoreError(f"{arm.reference} is asked for, but the store holds {bundles.reference}")
            with memory_for(bundles):
                at = datetime.now(UTC).isoformat(timespec="seconds")
                loaded = Loaded(bundles, self._load(bundles), at)
        except Exception as error:  # whatever is wrong with a version, the others must go on
            why = f"arm {arm.name} does not load: {said(error)}"
            log.error("%s; its experiment waits", why)
            log.debug("loading %s", arm.reference, exc_info=True)
            with self._lock:
                self._failed = {**self._failed, key: (why, time.monotonic())}
            return
        with self._lock:
            self._failed = {one: failed for one, failed in self._failed.items() if one != key}
            if key in self._wanted:  # else it has ended meanwhile
                self._loaded = {**self._loaded, key: loaded}
                self._serve()
                log.info("arm %s: %s is loaded", arm.name, arm.reference)

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_s):
            self.look()

    def _load_all(self) -> None:
        while self._to_load.wait() and not self._stop.is_set():
            self._to_load.clear()
            self.load_due()
