"""Whoever does not answer is left alone for a while, then asked again: nobody waits for it twice."""

from time import monotonic

PAUSE_S = 1.0


class Circuit:
    """What is known of whether something elsewhere answers. Belongs to one thread, or one event loop."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._asked_again_at: float | None = None  # monotonic; None: it answers

    @property
    def answers(self) -> bool:
        """Whether it did when it was last asked."""
        return self._asked_again_at is None

    def may_ask(self) -> bool:
        """Where it does not answer, True once in each pause: for whoever tries it for all the others."""
        if self._asked_again_at is None:
            return True
        if monotonic() < self._asked_again_at:
            return False
        self._asked_again_at = monotonic() + self._pause_s
        return True

    def answered(self) -> None:
        self._asked_again_at = None

    def failed(self) -> None:
        self._asked_again_at = monotonic() + self._pause_s
