"""Hands over what a process noted, some times a second: no request waits for it."""

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

MOST_WAITING = 50_000  # of what is not sent yet; more is dropped, and counted
MOST_AT_ONCE = 5_000

T = TypeVar("T")


class Sender(ABC, Generic[T]):
    """Keeps what nobody takes for now. Thread-safe."""

    what = "what is noted"
    every_s = 0.25

    def __init__(self) -> None:
        self.problem: str | None = None
        self.dropped = 0  # since the process began
        self._waiting: deque[T] = deque()
        self._batch, self._is_taken = list[T](), True  # the last one that was handed over
        self.number = 0  # of that one
        self._stop, self._sending = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._send_on, name=f"send {self.what}", daemon=True)

    @abstractmethod
    def hand_over(self, noted: Sequence[T]) -> None:
        """Raises, of whatever kind, where it is not taken."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def note(self, one: T) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(one)
        else:
            self.dropped += 1

    def send(self) -> None:
        """Hands over what waits, and be it nothing; what nobody takes is handed over again as it was, under
        its number. Never raises."""
        with self._sending:
            try:
                self._hand_over_all()
                self.problem = None
            except Exception as error:  # it may come back; what came since follows
                problem = f"{self.what} is not taken down: {type(error).__name__}: {error}"[:1000]
                if self.problem is None:
                    log.error("%s", problem)
                self.problem = problem

    def _hand_over_all(self) -> None:
        while True:
            if self._is_taken:
                self._batch, self._is_taken = self._some(), False
                self.number += 1
            self.hand_over(self._batch)
            self._is_taken = True
            if not self._waiting:
                return

    def _some(self) -> list[T]:
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]

    def _send_on(self) -> None:
        while not self._stop.wait(self.every_s):
            self.send()
        self.send()
