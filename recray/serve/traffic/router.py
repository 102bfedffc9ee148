"""Asks for each request the version that its user is to get."""

import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np

from recray.serve.follower import Loaded
from recray.serve.http import answers
from recray.serve.http.made import Made, WentBy
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.traffic.arms import Arms, Route, Serving
from recray.serve.traffic.exposures import ArmAnswer, Reporter
from recray.serve.traffic.interleaving import BASELINE, NOBODY, team_draft
from recray.serve.traffic.shadow import Shadows
from recray.store.experiments import Experiment, place

log = logging.getLogger(__name__)

T = TypeVar("T")
Ask: TypeAlias = Callable[[RecommendRequest, Loaded[T], str], Awaitable[Made]]
"""An answer of one version; the text tells the arms of one version apart."""
PRODUCTION = ""


class Router(Generic[T]):
    """
    Args:
        ask: raises for requests that are wrong, and whatever else goes wrong in a version.
        budget_ms: of requests that name none; 0: as long as it takes.
    """

    def __init__(self, arms: Arms[T], reporter: Reporter, ask: Ask[T], budget_ms: int = 0) -> None:
        self._arms, self._reporter, self._ask, self._budget_ms = arms, reporter, ask, budget_ms
        self._shadows: Shadows[T] = Shadows(ask, reporter)

    async def recommend(self, request: RecommendRequest, request_id: str, production: Loaded[T]) -> Made:
        """An arm that fails costs its user nothing: production answers instead, and the arm is charged.

        All that is asked for one answer shares its budget.

        Raises:
            RequestError: production refuses the request too, so that it is no fault of the arm.
        """
        serving = self._arms.serving  # taken once
        if not serving.running or request.user_id is None:
            return await self._ask(request, production, PRODUCTION)
        now, user = time.time(), str(request.user_id)
        route = serving.route(user, now)
        if route is None:
            made = await self._ask(request, production, PRODUCTION)
        elif route.experiment.kind == "interleaving":
            made = await self._interleaved(request, request_id, serving, route, production)
        else:
            made = await self._of_arm(request, request_id, route, production)
        for shadow in serving.shadows(user, now) if is_counted(request) else ():
            self._shadows.offer(shadow, request, made.answer)
        return made

    async def _of_arm(
        self, request: RecommendRequest, request_id: str, route: Route[T], production: Loaded[T]
    ) -> Made:
        began, arm = time.perf_counter(), route.arm.name
        made = await self._attempt(request, route)
        failed = made is None
        if made is None:
            made = await self._instead(request, production, began)
        shown: answers.ArmShown = {"experiment": route.experiment.name, "arm": arm, "failed": failed}
        answer: answers.Recommendations = {**made.answer, "arm": shown}
        if is_counted(request):
            took_ms = (time.perf_counter() - began) * 1e3
            self._reporter.note(_exposure(route, request, request_id, arm, took_ms, answer))
        return made._replace(answer=answer)

    async def _interleaved(
        self,
        request: RecommendRequest,
        request_id: str,
        serving: Serving[T],
        route: Route[T],
        production: Loaded[T],
    ) -> Made:
        """Both arms' lists, drawn from in turns; where one fails the other's list is shown, undrawn.

        Each has half of the budget, whoever is asked first.
        """
        began, experiment = time.perf_counter(), route.experiment
        half = _within(request, self._budget_of(request) / 2)
        both = [await self._attempt(half, serving.of(experiment, arm)) for arm in experiment.arms]
        whole = [made for made in both if made is not None]
        failed = len(whole) < len(both)
        made = whole[0] if whole else await self._instead(request, production, began)
        if not failed:
            made = _drawn(experiment, whole, request_id)
        shown: answers.ArmShown = {"experiment": experiment.name, "arm": "", "failed": failed}
        answer: answers.Recommendations = {**made.answer, "arm": shown}
        if is_counted(request):
            took_ms = (time.perf_counter() - began) * 1e3
            self._reporter.note(_exposure(route, request, request_id, "", took_ms, answer))
        return made._replace(answer=answer)

    async def _attempt(self, request: RecommendRequest, route: Route[T]) -> Made | None:
        """None: the arm fails, or refuses what production may answer: its version knows other columns."""
        try:
            return await self._ask(request, route.loaded, f"{route.experiment.salt} {route.arm.name}")
        except RequestError as error:
            level = logging.ERROR if error.status >= 500 else logging.INFO  # production may refuse it too
            log.log(level, "arm %s of %s fails: %s", route.arm.name, route.experiment.name, error)
        except Exception:
            log.exception("arm %s of %s fails: production answers", route.arm.name, route.experiment.name)
        return None

    async def _instead(self, request: RecommendRequest, production: Loaded[T], began: float) -> Made:
        """Production's answer, in what the arms have left of the budget."""
        left_ms = self._budget_of(request) - (time.perf_counter() - began) * 1e3
        return await self._ask(_within(request, left_ms), production, PRODUCTION)

    def _budget_of(self, request: RecommendRequest) -> float:
        return request.budget_ms or self._budget_ms or math.inf


def _within(request: RecommendRequest, budget_ms: float) -> RecommendRequest:
    if budget_ms == math.inf:
        return request
    return request.model_copy(update={"budget_ms": max(1, int(budget_ms))})


def is_counted(request: RecommendRequest) -> bool:
    """Whether it is somebody who looks at a list now, and not a replay or an inspection."""
    return request.request_time is None and not request.explain


def _exposure(
    route: Route[T],
    request: RecommendRequest,
    request_id: str,
    arm: str,
    took_ms: float,
    answer: answers.Recommendations,
) -> ArmAnswer:
    items = answer["items"]
    return ArmAnswer(
        route.experiment.salt,
        arm,
        str(request.user_id),
        time.time(),
        took_ms,
        answer["arm"]["failed"] or any(one["reason"] == "failed" for one in answer["skipped"]),
        not items,
        answer["fallback"] is not None or any(one["reason"] == "late" for one in answer["skipped"]),
        request_id,
        tuple(item["item_id"] for item in items),
        tuple(item["arm"] for item in items if "arm" in item),  # "": nobody's
    )


def _drawn(experiment: Experiment, both: list[Made], request_id: str) -> Made:
    """One list of both; who begins is drawn by the request's id, so that an answer can be made again.

    What a rule has pinned keeps its place, and is nobody's.
    """
    first, second = (made.answer for made in both)
    lists = [[item["item_id"] for item in answer["items"]] for answer in (first, second)]
    pins = _pins((first, second))
    k, pinned = max(map(len, lists)), set(pins.values())
    rng = np.random.default_rng(int(place(experiment.salt, request_id) * 2**53))
    unpinned = [[item_id for item_id in each if item_id not in pinned] for each in lists]
    items, teams = team_draft(unpinned[0], unpinned[1], k - len(pins), rng)
    for where, item_id in sorted(pins.items()):
        items.insert(where, item_id)
        teams.insert(where, NOBODY)
    places = [{item_id: place for place, item_id in enumerate(each)} for each in lists]
    # Nobody's item is pinned, or stands in one list alone: the other had none left.
    sides = [
        team if team != NOBODY else int(item_id not in places[BASELINE])
        for item_id, team in zip(items, teams, strict=True)
    ]
    picks = [Pick(side, places[side][item_id]) for side, item_id in zip(sides, items, strict=True)]
    drawn: list[answers.Item] = []
    for pick, team in zip(picks, teams, strict=True):
        item = both[pick.side].answer["items"][pick.place].copy()
        item.pop("propensity", None)  # it was that of its own list
        item["arm"] = experiment.arms[team].name if team != NOBODY else ""
        drawn.append(item)
    timings = {"first": first["timings_ms"]["total"], "second": second["timings_ms"]["total"]}
    timings["total"] = sum(timings.values())
    skipped = [*first["skipped"], *(one for one in second["skipped"] if one not in first["skipped"])]
    answer: answers.Recommendations = {**first, "items": drawn, "skipped": skipped, "timings_ms": timings}
    return Made(
        answer,
        rules=tuple(dict.fromkeys(rule for made in both for rule in made.rules)),
        went_by=_went_by(both, picks),
        versions=tuple(both[pick.side].answer["version"] for pick in picks),
    )


def _pins(both: Sequence[answers.Recommendations]) -> dict[int, str]:
    """Items that a rule has put at their places; of two for one place, the first list's."""
    pins: dict[int, str] = {}
    for answer in both:
        for where, item in enumerate(answer["items"]):
            if item["source"] == "pinned" and item["item_id"] not in pins.values():
                pins.setdefault(where, item["item_id"])
    return pins


class Pick(NamedTuple):
    """An item of one of two lists."""

    side: int
    place: int


def _went_by(both: list[Made], picks: list[Pick]) -> WentBy | None:
    """What each item's own ranker went by, under the names of both."""
    names_of = [made.went_by.feature_names if made.went_by else () for made in both]
    names = tuple(dict.fromkeys(name for of_side in names_of for name in of_side))
    if not names:
        return None
    columns_of = [[names.index(name) for name in of_side] for of_side in names_of]
    features_SF = np.full((len(picks), len(names)), np.nan, np.float32)
    for row, pick in enumerate(picks):
        if went_by := both[pick.side].went_by:
            features_SF[row, columns_of[pick.side]] = went_by.features_SF[pick.place]
    return WentBy(names, features_SF)
