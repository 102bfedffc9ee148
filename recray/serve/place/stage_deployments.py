"""Retrieval and ranking as deployments of their own: each holds its stage of what requests pin."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from recray.features.candidates import Candidates
from recray.ops.ann import set_num_threads
from recray.serve.clock import StageClock
from recray.serve.events.feed import Feed
from recray.serve.events.growing import Growing
from recray.serve.events.live import LiveVersion, opened
from recray.serve.follower import RETRY_S, Follower, said
from recray.serve.memory import memory_for
from recray.serve.place.config import ServiceConfig
from recray.serve.place.crossing import Crossing
from recray.serve.place.following import follow
from recray.serve.place.hearing import feed_of
from recray.serve.place.hub_actor import hub_of
from recray.serve.query import Query
from recray.serve.stages.listed import open_ranking, open_reasons, open_retrieval, run
from recray.serve.state import NO_CANDIDATES, RequestState, RetrievalStage, Stage
from recray.serve.versions import OpenedVersion, ServedBundles, open_served
from recray.store import Reference, StoreError
from recray.store.ledger import TrafficLedger

log = logging.getLogger(__name__)

KEPT_S = 60.0  # requests in flight may still want the version before the last move

T = TypeVar("T")


class StageVersions(Generic[T]):
    """The versions of one stage that a replica holds: the followed one, and those that requests pin."""

    def __init__(self, config: ServiceConfig, load: Callable[[ServedBundles], T]) -> None:
        self._config, self._load = config, load
        self._follower: Follower[T] = follow(config, load)
        self._kept: dict[str, tuple[T, float]] = {}  # by digest; and when it was last asked for
        self._lock = asyncio.Lock()
        self._ledger = TrafficLedger(config.open_store(), config.application)
        self._looking: asyncio.Task[None] | None = None
        self._failed: dict[str, float] = {}  # digests of arms, and the monotonic time of the attempt
        self._follower.start()

    def look(self) -> None:
        """Begins to load what experiments ask, so that nobody who is sent there waits for it: each replica
        does, for a load from outside reaches one. Called on the event loop, again and again."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._load_arms())

    async def _load_arms(self) -> None:
        try:
            running = (await asyncio.to_thread(self._ledger.now)).running
        except Exception as error:  # the ingress says so
            log.debug("experiments are not known: %s", error)
            return
        now = time.monotonic()
        self._failed = {digest: at for digest, at in self._failed.items() if now - at < RETRY_S}
        for reference in {arm.reference for one in running for arm in one.experiment.arms}:
            if reference.digest in self._failed:
                continue
            try:
                await self.get(reference)
            except Exception as error:  # whatever is wrong with a version, the others must go on
                self._failed[reference.digest] = now
                log.error("%s of an experiment does not load: %s", reference, said(error))

    async def get(self, reference: Reference) -> T:
        """The stage in exactly this version; loaded in a thread where it is not at hand.

        Raises:
            StoreError: the store holds another bundle under this name and version.
        """
        current = self._follower.current
        if current.reference.digest == reference.digest:
            return self._keep(reference.digest, current.content)
        if kept := self._kept.get(reference.digest):  # and is not kept waiting by another one's load
            return self._keep(reference.digest, kept[0])
        async with self._lock:  # requests for one new version load it once
            kept = self._kept.get(reference.digest)
            content = kept[0] if kept else await asyncio.to_thread(self._load_exactly, reference)
            return self._keep(reference.digest, content)

    def _load_exactly(self, reference: Reference) -> T:
        bundles = open_served(self._config.open_store(), reference.name, reference.version)
        if bundles.reference.digest != reference.digest:
            raise StoreError(f"{reference} is asked for, but the store holds {bundles.reference}")
        with memory_for(bundles):
            return self._load(bundles)

    def _keep(self, digest: str, content: T) -> T:
        now = time.monotonic()
        if digest not in self._kept:
            self._kept = {one: kept for one, kept in self._kept.items() if now - kept[1] < KEPT_S}
        self._kept[digest] = content, now
        return content


class Retrieval(NamedTuple):
    """The first stage, and the items that it knows."""

    stage: RetrievalStage
    crossing: Crossing


class RetrievalDeployment:
    """The first stage, for a pinned version."""

    def __init__(self, config: ServiceConfig) -> None:
        log_beside_serve()
        set_num_threads(1)
        self._feed = feed = feed_of(hub_of(config))

        def make(version: OpenedVersion, live: LiveVersion) -> Retrieval:
            return Retrieval(open_retrieval(config, version), _crossing(version))

        self._versions = StageVersions(config, _growing(make, feed))

    async def load(self, reference: Reference) -> None:
        await self._versions.get(reference)

    async def check_health(self) -> None:
        """Called by Serve once a second."""
        self._versions.look()

    async def retrieve(self, reference: Reference, query: Query) -> RequestState:
        growing = await self._versions.get(reference)
        heard = (growing.position,)  # before: what serves knows no less
        stage, crossing = growing.now
        return crossing.out_of(stage(RequestState(crossing.query_back(query), StageClock(), heard=heard)))

    async def similar(self, reference: Reference, item_id: int, k: int) -> Candidates:
        """
        Args:
            item_id: as it travels, see ``Crossing``.
        """
        stage, crossing = (await self._versions.get(reference)).now
        row = int(crossing.back(np.array([item_id]))[0])
        return NO_CANDIDATES if row < 0 else crossing.candidates_out(stage.similar(row, k))


class RankingStages(NamedTuple):
    """All stages after the first, and the items that they know."""

    ranking: tuple[Stage, ...]
    reasons: tuple[Stage, ...]
    crossing: Crossing


class RankingDeployment:
    """All stages after the first, for a pinned version."""

    def __init__(self, config: ServiceConfig) -> None:
        log_beside_serve()
        self._feed = feed = feed_of(hub_of(config))

        def make(version: OpenedVersion, live: LiveVersion) -> RankingStages:
            return RankingStages(open_ranking(config, version), open_reasons(version), _crossing(version))

        self._versions = StageVersions(config, _growing(make, feed))

    async def load(self, reference: Reference) -> None:
        await self._versions.get(reference)

    async def check_health(self) -> None:
        """Called by Serve once a second."""
        self._versions.look()

    async def rank(self, reference: Reference, state: RequestState) -> RequestState:
        growing = await self._versions.get(reference)
        heard = (*state.heard, growing.position)
        ranking, reasons, crossing = growing.now
        state = run(ranking, crossing.back_in(state)._replace(clock=StageClock(), heard=heard))
        if state.query.explain:
            state = await asyncio.to_thread(run, reasons, state)
        return crossing.out_of(state)


def _growing(
    make: Callable[[OpenedVersion, LiveVersion], T], feed: Feed
) -> Callable[[ServedBundles], Growing[T]]:
    return lambda bundles: Growing(opened(bundles, feed), make, feed)


def _crossing(version: OpenedVersion) -> Crossing:
    return Crossing(version.num_published, version.new_raw_ids)


def log_beside_serve() -> None:
    """Sends what this package logs where Serve's own log of the replica goes."""
    ours = logging.getLogger("recray")
    ours.setLevel(logging.INFO)
    for handler in logging.getLogger("ray.serve").handlers:
        ours.addHandler(handler)
