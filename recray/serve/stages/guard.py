"""A stage that may be left out: where a request's time is up, or the stage fails, the answer goes on without
it and says so."""

import logging
from time import perf_counter

from recray.serve.stages.state import RequestState, Skipped, Stage

log = logging.getLogger(__name__)
LATE, FAILED = "late", "failed"
FORGETS = 0.1  # of its usual time, by each call


class Guarded:
    """Runs a stage while there is time for it.

    What it usually takes is learnt from its calls. Left out often, it is tried again by and by.
    """

    def __init__(self, name: str, stage: Stage) -> None:
        self._name, self._stage = name, stage
        self._usual_ms = 0.0

    def __call__(self, state: RequestState) -> RequestState:
        query = state.query
        if query.budget_ms is not None and state.clock.elapsed_ms() + self._usual_ms > query.budget_ms:
            self._usual_ms *= 1 - FORGETS
            return state.skip(Skipped(self._name, LATE))
        began = perf_counter()
        try:
            done = self._stage(state)
        except Exception:
            if not query.lenient:
                raise
            log.exception("stage %s failed: the answer goes without it", self._name)
            return state.skip(Skipped(self._name, FAILED))
        if query.lenient:  # the first call of all, which tries the version, is slower than any other
            self._usual_ms += FORGETS * ((perf_counter() - began) * 1e3 - self._usual_ms)
        return done
