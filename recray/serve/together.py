"""Those who ask at the same time share one call of what is far away."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

MOST_AT_ONCE = 256

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """One call is under way at a time; who comes meanwhile waits for the next one. Thread-safe.

    Args:
        call: for each question its answer, or an error that whoever asked it is told.
    """

    def __init__(self, call: Callable[[Sequence[Q]], Sequence[A | Exception]], name: str) -> None:
        self._call = call
        self._waiting: deque[tuple[Q, Future[A]]] = deque()
        self._lock, self._is_calling = threading.Lock(), False
        self._thread = ThreadPoolExecutor(1, name)

    def ask(self, question: Q) -> "Future[A]":
        """Raises, when it is done, what ``call`` gives or raises."""
        answer: Future[A] = Future()
        with self._lock:
            self._waiting.append((question, answer))
            is_calling, self._is_calling = self._is_calling, True
        if not is_calling:
            self._thread.submit(self._call_on)
        return answer

    def stop(self) -> None:
        self._thread.shutdown(wait=False)

    def _call_on(self) -> None:
        while some := self._some():
            try:
                answers = self._call([question for question, _ in some])
            except Exception as error:  # of whatever kind: whoever waits is told
                answers = [error] * len(some)
            for (_, waits), answer in zip(some, answers, strict=True):
                if not waits.set_running_or_notify_cancel():
                    continue  # whoever asked is gone
                if isinstance(answer, Exception):
                    waits.set_exception(answer)
                else:
                    waits.set_result(answer)

    def _some(self) -> list[tuple[Q, Future[A]]]:
        with self._lock:
            some = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
            self._is_calling = bool(some)
        return some
