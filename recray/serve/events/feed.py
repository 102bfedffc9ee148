"""Tells the versions that a replica holds what the hub was told: once all of it, then whatever comes."""

import logging
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from recray.serve.events.hub import MOST_AT_ONCE, Batch, Hub
from recray.serve.events.marks import Marks
from recray.serve.events.told import Gone, Told, id_of, without
from recray.serve.position import Position

log = logging.getLogger(__name__)
POLL_S = 0.2  # a replica knows within a second what another one was told
LEAST_S = 0.05  # between two looks, however often it is woken: each costs the hub as much as an event


class Listener(Protocol):
    """A version that can be told."""

    def tell(self, told: Sequence[Told]) -> None: ...

    def grow(self) -> None:
        """Takes in what takes longer, while others are told. Never raises."""


class Feed:
    """Follows a hub in the background. Versions are let go with their last user."""

    def __init__(self, hub: Hub, poll_s: float = POLL_S) -> None:
        self._hub, self._poll_s = hub, poll_s
        self._name, self._number = "", 0
        self.position = Position("", 0)  # of what all listeners were told
        self._marks: Marks | None = None
        self._heard: list[Told] = []
        self._again: set[str | None] = set()  # ids that a new hub may say again
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._deaf: weakref.WeakKeyDictionary[Listener, str] = weakref.WeakKeyDictionary()  # and why
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._stop, self._wake = threading.Event(), threading.Event()
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._follow, name="follow-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    def attach(self, listener: Listener) -> None:
        """From now on it is told everything, first of all what was heard before."""
        with self._lock:
            if self._heard:
                listener.tell(self._heard)
            self._listeners.add(listener)

    def silence(self) -> AbstractContextManager[object]:
        """Nobody is told anything within."""
        return self._lock

    def marked(self) -> Marks:
        """From now on kept up to date, after the listeners and the position."""
        with self._lock:
            if self._marks is None:
                self._marks = Marks()
                self._marks.tell(self._heard)
            return self._marks

    def look(self) -> None:
        """One look at the hub, of one thread at a time: two would hear the same. Never raises."""
        try:
            with self._looking:
                while self._hear():
                    pass
            problem = next(iter(self._deaf.values()), None)
        except Exception as error:  # the hub may be down for a while; what was heard stays
            problem = f"what replicas are told is out of reach: {type(error).__name__}: {error}"
        self._complain(problem)
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.grow()

    def wake(self) -> None:
        """Look at once: there is something new."""
        self._wake.set()

    def _hear(self) -> bool:
        """Whether there is more."""
        before = self._number
        batch = self._hub.after(self._number, self._name)
        is_anew = batch.hub != self._name
        is_new = (batch.hub, batch.upto) != (self._name, self._number)
        with self._lock:
            told = self._not_heard(batch, is_new)
            self._name, self._number = batch.hub, batch.upto
            for one in told:
                if isinstance(one, Gone):
                    self._heard = without(self._heard, one.user_id)
            self._heard += [one for one in told if not isinstance(one, Gone)]
            for listener in self._listeners if told else ():
                self._tell(listener, told)
            self.position = Position(self._name, self._number)
            if self._marks:
                self._marks.tell(told)
        return is_anew or batch.upto - before >= MOST_AT_ONCE

    def _not_heard(self, batch: Batch, is_new: bool) -> Sequence[Told]:
        """A hub that begins anew is told again what the log has: most of it was heard of the one before."""
        if batch.hub != self._name:
            self._again = {id_of(one) for one in self._heard} - {None}
        elif not is_new:
            self._again = set()
        return [one for one in batch.told if id_of(one) not in self._again] if self._again else batch.told

    def _tell(self, listener: Listener, told: Sequence[Told]) -> None:
        """What one version cannot make use of is told to the others all the same."""
        try:
            listener.tell(told)
        except Exception as error:  # it goes on without this, and says so as long as it serves
            log.debug("telling a version", exc_info=True)
            self._deaf[listener] = f"a version has missed what it was told: {type(error).__name__}: {error}"

    def _complain(self, problem: str | None) -> None:
        if problem and problem != self.problem:
            log.error("%s", problem)
        self.problem = problem

    def _follow(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            began = time.monotonic()
            self.look()
            self._wake.wait(self._poll_s)
            self._stop.wait(max(0.0, LEAST_S - (time.monotonic() - began)))
