"""The ingress of the spread placement: id maps here, stages behind handles, and what stands in for each."""

from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from ray.serve.handle import DeploymentHandle

from recray.features.candidates import Candidates
from recray.serve.clock import StageClock
from recray.serve.events.growing import Growing
from recray.serve.events.live import LiveVersion, opened
from recray.serve.follower import Loaded
from recray.serve.http import answers
from recray.serve.http.made import Made
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.place.catalogue import Catalogue
from recray.serve.place.config import ServiceConfig
from recray.serve.place.crossing import Crossing
from recray.serve.place.elsewhere import Elsewhere, UnansweredError
from recray.serve.place.hearing import HearingService, feed_of
from recray.serve.place.hub_actor import hub_of
from recray.serve.place.one_place import OnePlace
from recray.serve.place.pipeline import made_of, similar_answer
from recray.serve.query import Query
from recray.serve.stages.listed import open_stand_in, run
from recray.serve.stages.shorten import Shorten
from recray.serve.state import RequestState, Skipped, Stage
from recray.serve.traffic.exposures import Desk
from recray.serve.traffic.recorder import Keeper
from recray.serve.versions import OpenedVersion, ServedBundles
from recray.store import Reference

RETRIEVAL_SHARE = 0.6  # of a budget; the ranker has what retrieval leaves


class PinnedCatalogue(Catalogue):
    """What the ingress knows of a version as it is now: enough to do without the other deployments."""

    def __init__(self, version: OpenedVersion, live: LiveVersion, config: ServiceConfig) -> None:
        super().__init__(version, config.shown, config.budget_ms)
        self._log = version.event_log
        self.stand_in = open_stand_in(config, version)
        self.without_ranker: tuple[Stage, ...] = (*config.rules.open(version), Shorten())
        self.crossing = Crossing(version.num_published, version.new_raw_ids)
        self.live = live

    @property
    def known_until(self) -> int | None:
        """Unix seconds at which what is known ends; None where nothing is known of events."""
        return self._log.newest if self._log else None


class Pinned(NamedTuple):
    """The version for one request."""

    bundles: ServedBundles
    catalogue: PinnedCatalogue

    @classmethod
    def of(cls, loaded: Loaded[Growing[PinnedCatalogue]]) -> "Pinned":
        """As it is now, taken once."""
        return cls(loaded.bundles, loaded.content.now)

    @property
    def reference(self) -> Reference:
        return self.bundles.reference


class Parts(NamedTuple):
    """The other deployments, as one version meets them."""

    retrieval: Elsewhere
    ranking: Elsewhere


class SpreadService(HearingService[PinnedCatalogue]):
    """Answers whatever becomes of the other deployments."""

    def __init__(
        self,
        config: ServiceConfig,
        retrieval: DeploymentHandle,
        ranking: DeploymentHandle,
        desk: Desk | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        hub = hub_of(config)
        feed = feed_of(hub)

        def parts() -> Parts:
            within_s = config.stage_within_s
            return Parts(Elsewhere("retrieval", retrieval, within_s), Elsewhere("ranking", ranking, within_s))

        self._parts, self._new_parts = parts(), parts
        self._of_arms: WeakKeyDictionary[Growing[PinnedCatalogue], Parts] = WeakKeyDictionary()
        self._has_served = False

        def make(version: OpenedVersion, live: LiveVersion) -> PinnedCatalogue:
            return PinnedCatalogue(version, live, config)

        def load(bundles: ServedBundles) -> Growing[PinnedCatalogue]:
            """Raises where a file is damaged: the ingress decides when a version is used, and the other
            deployments must be able to load it."""
            bundles.verify()
            growing = Growing(opened(bundles, feed), make, feed)
            # Requests go by a new version when the others have it: until then the old one answers whole.
            for part in self._parts if self._has_served else ():
                part.load(bundles.reference)
            return growing

        super().__init__(config, load, hub, feed, desk, keeper)
        self._has_served = self._serves.loaded is not None
        self._one_explanation = OnePlace("explanations")
        self.start()

    @property
    def catalogue(self) -> PinnedCatalogue:
        return self.growing.now

    def known_until(self) -> int | None:
        return self.catalogue.known_until

    def problem(self) -> str | None:
        return super().problem() or self._parts.retrieval.problem or self._parts.ranking.problem

    def _parts_of(self, loaded: Loaded[Growing[PinnedCatalogue]]) -> "Parts":
        """What an arm's version does to a deployment does not decide whether production asks it."""
        if loaded is self._serves.loaded:
            return self._parts
        if loaded.content not in self._of_arms:
            self._of_arms[loaded.content] = self._new_parts()
        return self._of_arms[loaded.content]

    async def made(self, request: RecommendRequest, loaded: Loaded[Growing[PinnedCatalogue]]) -> Made:
        clock = StageClock()
        current, parts = Pinned.of(loaded), self._parts_of(loaded)
        query, unknown = current.catalogue.query(request)
        clock.lap("lookup")
        with self._one_explanation if query.explain else nullcontext():
            state = await self._retrieved(parts.retrieval, current, RequestState(query, clock))
            state = await self._ranked(parts.ranking, current, state)
        return made_of(current.bundles, current.catalogue, state, unknown)

    async def _retrieved(self, retrieval: Elsewhere, current: Pinned, state: RequestState) -> RequestState:
        query, clock, catalogue = state.query, state.clock, current.catalogue
        asked = catalogue.crossing.query_out(_with_left(state, RETRIEVAL_SHARE))
        try:
            found = await retrieval.ask(
                RequestState, "retrieve", current.reference, asked, budget_ms=asked.budget_ms
            )
        except UnansweredError as error:
            clock.lap("hops")
            return catalogue.stand_in(state.skip(Skipped("retrieve", error.reason)))
        clock.lap_elsewhere(found.clock.timings_ms)
        found = catalogue.crossing.back_in(found)._replace(query=query, clock=clock)
        catalogue.stand_in.remember(found)
        return found

    async def _ranked(self, ranking: Elsewhere, current: Pinned, state: RequestState) -> RequestState:
        """Where the ranking deployment is late or gone, the order of retrieval under the rules."""
        crossing = current.catalogue.crossing
        asked = crossing.out_of(state._replace(query=_with_left(state)))
        try:
            ranked = await ranking.ask(
                RequestState, "rank", current.reference, asked, budget_ms=asked.query.budget_ms
            )
        except UnansweredError as error:
            state.clock.lap("hops")
            return run(current.catalogue.without_ranker, state.skip(Skipped("rank", error.reason)))
        state.clock.lap_elsewhere(ranked.clock.timings_ms)
        return crossing.back_in(ranked)._replace(query=state.query, clock=state.clock)

    async def similar(self, item_id: str, k: int) -> answers.SimilarItems:
        """
        Raises:
            RequestError: 404, no such item; 503, the retrieval deployment does not answer.
        """
        current = Pinned.of(self._serves.current)
        catalogue, crossing = current.catalogue, current.catalogue.crossing
        asked = int(crossing.out(np.array([catalogue.item_row(item_id)]))[0])
        try:
            near = await self._parts.retrieval.ask(Candidates, "similar", current.reference, asked, k)
        except UnansweredError as error:
            message = (
                f"what is similar is known to the retrieval deployment alone, and that is {error.reason}"
            )
            raise RequestError(
                503, "retrieval_unanswered", f"{message}: try again in a while", {"retry-after": "1"}
            ) from None
        return similar_answer(current.bundles, catalogue, item_id, crossing.candidates_back(near))


def _with_left(state: RequestState, share: float = 1.0) -> Query:
    """The query with a share of the milliseconds that are left of its budget."""
    budget_ms = state.query.budget_ms
    if budget_ms is None:
        return state.query
    return replace(state.query, budget_ms=max(budget_ms - state.clock.elapsed_ms(), 0.0) * share)
