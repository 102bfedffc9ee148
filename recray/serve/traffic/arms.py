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
from recray.serve.memory import require_memory
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
        load: makes what serves out of the bundles; runs in the background thread.
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
        self._stop = threading.Event()
        self.serving: Serving[T] = Serving()
        self._thread = threading.Thread(target=self._follow, name="follow-traffic", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    @property
    def problem(self) -> str | None:
        """What keeps an experiment from being as the journal says."""
        return self._unread or next((why for why, _ in self._failed.values()), None)

    def find(self, wanted: Wanted) -> Loaded[T] | None:
        """What serves of a version already, or did until a moment ago: a promotion ends its experiment."""
        at_hand = [*self._loaded.values(), *(one for one, _ in self._ended)]
        return next((one for one in at_hand if versions_of(one.bundles) == wanted), None)

    def poll(self) -> None:
        """One look at the journal; loads what is new. Never raises."""
        try:
            running = self._ledger.now().running
        except Exception as error:  # a look at a broken store must not end the thread that looks
            self._unread = (
                f"the traffic of {self._application} cannot be read, what was known stands: {error}"
            )
            return
        self._unread = None
        wanted = {(one.experiment.salt, arm.name): arm for one in running for arm in one.experiment.arms}
        self._failed = {key: failed for key, failed in self._failed.items() if key in wanted}
        # What has ended or waits is asked no more before anything that takes long begins.
        now = time.monotonic()
        self._ended = [(one, at) for one, at in self._ended if now - at < ENDED_S]
        self._ended += [(one, now) for key, one in self._loaded.items() if key not in wanted]
        self._loaded = {key: one for key, one in self._loaded.items() if key in wanted}
        self._serve(running)
        for key, arm in wanted.items():
            if key not in self._loaded and self._is_due(key):
                self._load_arm(key, arm)
        self._serve(running)

    def _serve(self, running: tuple[Running, ...]) -> None:
        whole = tuple(
            one
            for one in running
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
            require_memory(bundles)
            at = datetime.now(UTC).isoformat(timespec="seconds")
            self._loaded = {**self._loaded, key: Loaded(bundles, self._load(bundles), at)}
            self._failed.pop(key, None)
            log.info("arm %s: %s is loaded", arm.name, arm.reference)
        except Exception as error:  # whatever is wrong with a version, the others must go on
            why = f"arm {arm.name} does not load: {said(error)}"
            self._failed[key] = why, time.monotonic()
            log.error("%s; its experiment waits", why)
            log.debug("loading %s", arm.reference, exc_info=True)

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_s):
            self.poll()
