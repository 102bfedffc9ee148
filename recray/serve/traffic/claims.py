"""Which outcomes belong to an answer that was given: those of its request id, for an item that it showed."""

import time
from collections import Counter, deque
from typing import NamedTuple

from cachetools import TTLCache

from recray.event_log.records import Event
from recray.serve.traffic.exposures import ArmAnswer

REMEMBERED_S = 1_800.0
MOST_REMEMBERED = 100_000  # answers, a kilobyte each with ten items; the oldest go first
WAITS_S = 3.0  # replicas report a quarter of a second apart: a quick click may come before its answer


class Claim(NamedTuple):
    exposure: ArmAnswer
    outcome: Event


class Claims:
    """Remembers answers, and what was done with each: of one item each kind of outcome counts once."""

    def __init__(self) -> None:
        self._shown: TTLCache[str, ArmAnswer] = TTLCache(MOST_REMEMBERED, REMEMBERED_S)
        self._claimed: TTLCache[tuple[str, str, str], None] = TTLCache(MOST_REMEMBERED, REMEMBERED_S)
        self._waiting: deque[tuple[Event, float]] = deque(maxlen=MOST_REMEMBERED)
        self.counts = Counter[str]()

    def shown(self, exposure: ArmAnswer) -> None:
        self._shown[exposure.request_id] = exposure

    def claim(self, outcome: Event) -> Claim | None:
        """None where it belongs to no answer, or not yet: then it waits for a while."""
        request_id = str(outcome.request_id)
        exposure = self._shown.get(request_id)
        if exposure is None:
            self._waiting.append((outcome, time.monotonic()))
            return None
        if outcome.item_id not in exposure.items:
            self.counts["of items that were not shown"] += 1
            return None
        key = request_id, outcome.item_id, outcome.kind
        if key in self._claimed:
            self.counts["repeated"] += 1
            return None
        self._claimed[key] = None
        self.counts["claimed"] += 1
        # A client's clock may be wrong: nothing happens before the answer.
        at = max(outcome.at, exposure.at)
        return Claim(exposure, outcome._replace(at=at))

    def waited(self) -> list[Claim]:
        """What waited and has its answer now."""
        found, old, self._waiting = [], self._waiting, deque(maxlen=MOST_REMEMBERED)
        for outcome, since in old:
            if outcome.request_id in self._shown:
                if claim := self.claim(outcome):
                    found.append(claim)
            elif time.monotonic() - since > WAITS_S:
                self.counts["of unknown requests"] += 1
            else:
                self._waiting.append((outcome, since))
        return found
