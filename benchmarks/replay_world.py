"""An application that is asked and told at simulated moments and logs it, and faults that are planted where
it computes features."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recray.event_log.records import Event
from recray.event_log.tables import encoded
from recray.event_log.writer import LogWriter
from recray.features.live_log import LiveLog
from recray.features.ranking.feature import Value
from recray.features.ranking.known import KnownOfQuery
from recray.features.ranking.registry import FEATURES
from recray.serve.events.hub import LocalHub
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.rules.listed import Rules
from recray.serve.traffic.recorder import Given, exposure_of
from recray.store import Store

NO_RULES = Rules()
HANDED_OVER = 500  # answers at once


class Visit(NamedTuple):
    """Somebody asks."""

    user_id: str | None
    at: int  # unix seconds


def serve(
    store: Store,
    application: str,
    folder: Path,
    visits: Iterable[Visit],
    react: Callable[[Visit, Sequence[str]], Sequence[int]],
    *,
    rules: Rules = NO_RULES,
    k: int = 10,
) -> int:
    """Asks for every visit, in order of time, and logs in a folder; returns how many there were.

    Args:
        react: places of the items that are clicked, five seconds after the answer each.
    """
    config = ServiceConfig(application=application, store=str(store.root), rules=rules, record=False)
    service, log = FusedService(config, LocalHub()), LogWriter(folder)
    to_come: list[tuple[float, str, Event]] = []
    answers, told, count = [], list[Event](), 0
    for count, visit in enumerate(visits, start=1):
        now = []
        while to_come and to_come[0][0] < visit.at:
            now.append(heapq.heappop(to_come)[-1])
        if now:
            service._hub.append(now)
            service._feed.look()
            told += now
        request = RecommendRequest(user_id=visit.user_id, k=k, request_time=visit.at)
        given = Given(f"{count}", request, service.growing.now.made(request), float(visit.at), took_ms=0.0)
        answers.append(encoded(exposure_of(given)))
        items = [item["item_id"] for item in given.made.answer["items"]]
        for place in react(visit, items):
            at = visit.at + 5.0 * (place + 1)
            event = Event(visit.user_id, items[place], 1.0, at, f"{count}-{place}", "click", f"{count}", at)
            heapq.heappush(to_come, (at, event.event_id, event))
        if len(answers) == HANDED_OVER:
            log.expose(answers)
            log.record(told)
            answers, told = [], []
    log.expose(answers)
    log.record([*told, *(event for *_, event in to_come)])
    log.close()
    service.stop()
    return count


class Fault(NamedTuple):
    """A feature that serving computes otherwise than it is defined."""

    kind: str
    feature: str
    change: Callable[[KnownOfQuery, Value], Any]
    words: str  # part of the cause that is to be found


def _stale(known: KnownOfQuery, _: Value) -> Value:
    log = known.log
    assert isinstance(log, LiveLog)
    made_with = log._log
    return made_with.items_before(known.item_ids_K, known.time, min(known.time, made_with.end)).events_since(
        30
    )


FAULTS = (
    Fault("scale", "item_days_since_last", lambda _, value: 24.0 * value, "24 times"),
    Fault("offset", "hour_of_day", lambda _, value: (value + 1) % 24, "+1 of"),
    Fault("default for missing", "user_mean_rating", lambda _, value: np.nan_to_num(value), "0, where it is"),
    Fault("missing", "item_trend", lambda _, value: np.nan * value, "missing, where"),
    Fault("constant", "item_events_7d", lambda _, value: 0.0 * value, "always 0"),
    Fault("shifted join", "item_events", lambda _, value: np.roll(value, 1), "candidate before it"),
    Fault("stale table", "item_events_30d", _stale, "nothing had been told"),
    Fault("half precision", "item_mean_rating", lambda _, value: np.float16(value), "half precision"),
)


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """What is served within has the fault."""
    right = FEATURES[fault.feature]
    FEATURES[fault.feature] = replace(right, define=lambda known: fault.change(known, right.define(known)))
    try:
        yield
    finally:
        FEATURES[fault.feature] = right
