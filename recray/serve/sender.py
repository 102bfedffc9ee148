"""Hands over what a process noted, four times a second: no request waits for it."""

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

SEND_EVERY_S = 0.25
MOST_WAITING = 50_000  # of what is not sent yet; more is dropped, and counted
MOST_AT_ONCE = 5_000

T = TypeVar("T")


class Sender(ABC, Generic[T]):
    """Keeps what nobody takes for now. Thread-safe."""

    what = "what is noted"

    def __init__(self) -> None:
        self.problem: str | None = None
        self.dropped = 0  # since the process began
        self._waiting: deque[T] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_on, name=f"send {self.what}", daemon=True)

    @abstractmethod
    def hand_over(self, noted: Sequence[T]) -> None:
        """Raises, of whatever kind, where it is not taken."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def note(self, one: T) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(one)
        else:
            self.dropped += 1

    def send(self) -> None:
        """Hands over what waits, and be it nothing; keeps it where nobody takes it. Never raises."""
        noted = self._some()
        try:
            self.hand_over(noted)
            while noted := self._some():
                self.hand_over(noted)
            self.problem = None
        except Exception as error:  # it may come back; what came since follows
            problem = f"{self.what} is not taken down: {type(error).__name__}: {error}"[:1000]
            if self.problem is None:
                log.error("%s", problem)
            self.problem = problem
            self._waiting.extendleft(reversed(noted))

    def _some(self) -> list[T]:
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]

    def _send_on(self) -> None:
        while not self._stop.wait(SEND_EVERY_S):
            self.send()
        self.send()
