"""A notice that a machine will be taken away, heard by all workers at the same step."""

import logging
import time

from recray.train.context import Context

log = logging.getLogger(__name__)
EVERY_S = 5.0  # between looks: in one all workers wait for each other, some milliseconds
FIRST = 50  # steps, until they are timed


class Notice:
    """Looked for each so many steps, as many as take some seconds."""

    def __init__(self, context: Context) -> None:
        self.context, self._every, self._left = context, FIRST, FIRST
        self._steps, self._since_s = 0, time.monotonic()

    def is_there(self) -> bool:
        """Every rank asks after each step."""
        self._steps, self._left = self._steps + 1, self._left - 1
        if self._left > 0:
            return False
        self._left = self._every
        if (there := self.context.is_leaving()) and self.context.rank == 0:
            log.warning("a machine of this run will be taken away: a checkpoint is written now")
        return there

    def took(self) -> dict[str, tuple[float, float]]:
        """This worker's steps since they were last timed, to be averaged over workers."""
        return {"step_s": (time.monotonic() - self._since_s, self._steps)}

    def timed(self, step_s: float) -> None:
        """The mean of all workers, so that they look together; not a number where there were no steps."""
        self._every = max(1, round(EVERY_S / step_s)) if step_s > 0 else FIRST
        self._left = min(self._left, self._every)
        self._steps, self._since_s = 0, time.monotonic()
