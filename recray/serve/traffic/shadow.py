"""A version that is asked what others were asked, when nobody waits for it."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from recray.serve.http import answers
from recray.serve.http.made import Made
from recray.serve.http.requests import RecommendRequest
from recray.serve.traffic.arms import Route
from recray.serve.traffic.exposures import LeftOut, Reporter, Shadowed

log = logging.getLogger(__name__)

SHARE = 0.01  # of a process's time that all shadows may take: three times as much made p95 13 % longer
MOST_WAITING = 64  # requests; more are left out, and counted
TOO_LATE_S = 5.0  # what waited longer is left out: what is known has moved on

T = TypeVar("T")


class Shadows(Generic[T]):
    """Asks after the answer has gone, one request at a time, and rests between two: requests go first."""

    def __init__(
        self,
        ask: Callable[[RecommendRequest, Any, str], Awaitable[Made]],
        reporter: Reporter,
    ) -> None:
        self._ask, self._reporter = ask, reporter
        self._waiting: deque[_Asked[T]] = deque()
        self._work: asyncio.Task[None] | None = None

    def offer(self, route: Route[T], request: RecommendRequest, shown: answers.Recommendations) -> None:
        """Belongs to one event loop. Never raises, never waits."""
        if len(self._waiting) >= MOST_WAITING:
            self._reporter.note(LeftOut(route.experiment.salt))
            return
        self._waiting.append(_Asked(route, request, shown, time.monotonic()))
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._ask_on())

    async def _ask_on(self) -> None:
        while self._waiting:
            # Whoever waits for an answer now comes first.
            await asyncio.sleep(0)
            asked = self._waiting.popleft()
            if time.monotonic() - asked.at > TOO_LATE_S:
                self._reporter.note(LeftOut(asked.route.experiment.salt))
                continue
            began = time.perf_counter()
            self._reporter.note(await self._compared(asked))
            await asyncio.sleep((time.perf_counter() - began) * (1 / SHARE - 1))

    async def _compared(self, asked: "_Asked[T]") -> Shadowed:
        route, shown = asked.route, asked.shown
        salt, shown_ms = route.experiment.salt, shown["timings_ms"]["total"]
        try:
            made = await self._ask(asked.request, route.loaded, f"{salt} {route.arm.name}")
        except Exception as error:  # whatever is wrong with it, nobody sees it but in the counts
            log.debug("shadow %s fails", route.arm.name, exc_info=True)
            log.warning("shadow %s fails: %s: %s", route.arm.name, type(error).__name__, error)
            return Shadowed(salt, time.time(), 0.0, shown_ms, True, 0.0, float("nan"))
        overlap, correlation = agreement(_ids(shown), _ids(made.answer))
        took_ms = made.answer["timings_ms"]["total"]
        return Shadowed(salt, time.time(), took_ms, shown_ms, False, overlap, correlation)


class _Asked(NamedTuple, Generic[T]):
    route: Route[T]
    request: RecommendRequest
    shown: answers.Recommendations
    at: float  # monotonic


def _ids(answer: answers.Recommendations) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def agreement(shown: Sequence[str], other: Sequence[str]) -> tuple[float, float]:
    """Share of the shown items that are in the other list too, and Spearman's rank correlation of those.

    NaN where fewer than two are common. Ranks are those among the common items: no two are tied, so that it
    is 1 - 6 sum d^2 / (n (n^2 - 1)).
    """
    places = {item: place for place, item in enumerate(other)}
    common = [places[item] for item in shown if item in places]
    overlap = len(common) / len(shown) if shown else 1.0
    n = len(common)
    if n < 2:
        return overlap, float("nan")
    ranks = {place: rank for rank, place in enumerate(sorted(common))}
    squares = sum((rank - ranks[place]) ** 2 for rank, place in enumerate(common))
    return overlap, 1 - 6 * squares / (n * (n * n - 1))
