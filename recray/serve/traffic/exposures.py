"""What replicas say of the answers that they gave to users of experiments."""

import logging
import secrets
import threading
from collections import deque
from typing import Any, NamedTuple, Protocol, TypeAlias

from recray.serve.events.told import Outcome

log = logging.getLogger(__name__)

SEND_EVERY_S = 0.25
MOST_WAITING = 50_000  # of what is not sent yet; more is dropped, and counted


class Exposure(NamedTuple):
    """An answer of an experiment."""

    experiment: str  # its salt
    arm: str  # "": of both arms, item by item
    user: str
    at: float  # unix seconds
    took_ms: float
    failed: bool  # production answered instead
    empty: bool
    fell_back: bool  # without the user's own vector, or a stage
    request_id: str
    items: tuple[str, ...]  # raw ids, best first
    teams: tuple[str, ...] = ()  # the arm that each item is of


class Shadowed(NamedTuple):
    """A version was asked what another one had been asked."""

    experiment: str  # its salt
    at: float
    took_ms: float
    shown_ms: float  # what the answer took that was shown
    failed: bool
    overlap: float  # share of the shown items that it has too
    correlation: float  # of the ranks of those that both have (Spearman); NaN: fewer than two


class LeftOut(NamedTuple):
    """A shadow that there was no time for."""

    experiment: str  # its salt


Noted: TypeAlias = Exposure | Shadowed | Outcome | LeftOut


class Batch(NamedTuple):
    """What one process noted in a while; it is sent until it is taken, and counts once."""

    reporter: str
    number: int  # of this reporter's, from 1
    noted: tuple[Noted, ...]
    dropped: int  # for which there was no room


class Desk(Protocol):
    """Where all replicas leave what they noted; may be in another process."""

    def take(self, batch: Batch) -> None:
        """A batch that is there already is left out: who sent it may have heard no answer."""

    def numbers(self) -> dict[str, Any]:
        """What is known of each running experiment."""


class Reporter:
    """Sends what this process noted every quarter of a second: no request waits for it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.problem: str | None = None
        self._waiting: deque[Noted] = deque()
        self._batch = Batch(secrets.token_hex(8), 0, (), 0)  # the last one that was sent
        self._is_taken = True
        self._dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_on, name="report-traffic", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def note(self, one: Noted) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(one)
        else:
            self._dropped += 1

    def send(self) -> None:
        """Hands over what waits; what nobody takes is sent again as it was. Never raises."""
        if self._is_taken and not self._make_batch():
            return
        try:
            self._desk.take(self._batch)
            self._is_taken, self.problem = True, None
        except Exception as error:  # it may come back; what came since follows
            problem = f"what is learnt of experiments is not taken down: {type(error).__name__}: {error}"
            if self.problem is None:
                log.error("%s", problem)
            self.problem = problem[:1000]

    def _make_batch(self) -> bool:
        """Whether there is anything to say."""
        noted = tuple(self._waiting.popleft() for _ in range(len(self._waiting)))
        dropped, self._dropped = self._dropped, 0
        if not noted and not dropped:
            return False
        self._batch = Batch(self._batch.reporter, self._batch.number + 1, noted, dropped)
        self._is_taken = False
        return True

    def _send_on(self) -> None:
        while not self._stop.wait(SEND_EVERY_S):
            self.send()
        self.send()  # what was not taken,
        self.send()  # and what came since
