"""What may be left out: where a request's time is up, or it fails, the answer goes on without it and says
so."""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from recray.serve.clock import StageClock
from recray.serve.query import Query
from recray.serve.state import RequestState, Skipped, Stage

log = logging.getLogger(__name__)
LATE, FAILED = "late", "failed"
FORGETS = 0.1  # of its usual time, by each call

T = TypeVar("T")


class Guard:
    """Does something while there is time for it.

    What it usually takes is learnt from its calls. Left out often, it is tried again by and by.

    Args:
        without: what the clock books of it that has a guard of its own, and counts as no part of it.
    """

    def __init__(self, name: str, without: str = "") -> None:
        self._name, self._without = name, without
        self._usual_ms = 0.0

    def attempt(self, query: Query, clock: StageClock, do: Callable[[], T]) -> T | Skipped:
        """What ``do`` gives, or why it gives nothing.

        Raises:
            Exception: whatever ``do`` raises, where the query is not lenient.
        """
        if query.budget_ms is not None and clock.elapsed_ms() + self._usual_ms > query.budget_ms:
            self._usual_ms *= 1 - FORGETS
            return Skipped(self._name, LATE)
        began = perf_counter()
        try:
            done = do()
        except Exception:
            if not query.lenient:
                raise
            log.exception("stage %s failed: the answer goes without it", self._name)
            return Skipped(self._name, FAILED)
        if query.lenient:  # the first call of all, which tries the version, is slower than any other
            took_ms = (perf_counter() - began) * 1e3 - clock.timings_ms.get(self._without, 0.0)
            self._usual_ms += FORGETS * (took_ms - self._usual_ms)
        return done


class Guarded:
    """A stage behind a guard: where it is left out, the state stays as it is."""

    def __init__(self, name: str, stage: Stage) -> None:
        self._guard, self._stage = Guard(name), stage

    def __call__(self, state: RequestState) -> RequestState:
        done = self._guard.attempt(state.query, state.clock, lambda: self._stage(state))
        return state.skip(done) if isinstance(done, Skipped) else done
