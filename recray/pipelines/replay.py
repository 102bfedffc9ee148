"""What a version would have shown to those who were answered: asked again at their moments, told what was
told by then, through the stages that a replica opens."""

import heapq
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.event_log.records import Event, Fact
from recray.features.look_ups import LookUps
from recray.serve.events.feed import Feed
from recray.serve.events.growing import Growing
from recray.serve.events.hub import LocalHub
from recray.serve.events.live import LiveVersion, opened
from recray.serve.events.recorded import MOST, concerning_versions, of_items
from recray.serve.events.told import Told
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.catalogue import Catalogue
from recray.serve.place.pipeline import Pipeline
from recray.serve.rules.explore import ExploreConfig
from recray.serve.stages.listed import StagesConfig
from recray.serve.state import PINNED, RequestState
from recray.serve.versions import OpenedVersion, ServedBundles

WAIT_S = 0.02


class Asked(NamedTuple):
    """What the log has of a request."""

    at: float  # unix seconds: what came before is known
    request_time: int  # unix seconds that features went by
    user_id: str | None
    context: str  # JSON
    asked: int  # items
    named: str | None  # JSON of its own history and of what it excluded; None: nothing


class Order(NamedTuple):
    """What would have been drawn from, best first, without what is pinned."""

    item_ids: list[str]
    num_ranked: int  # what follows fills a long list, and is not drawn


class Replay:
    """One version, and what is told while it is asked."""

    def __init__(
        self,
        bundles: ServedBundles,
        stages: StagesConfig,
        events: pl.DataFrame,
        facts: Sequence[Fact] = (),
    ) -> None:
        """
        Args:
            stages: how it is served; nothing is drawn.
            events, facts: of the log; each is told at the moment at which it came. Of more than ``MOST``
                events those that came last.
        Raises:
            ConfigError, DataError: a bundle is damaged or does not fit this code.
        """
        drawn_not = replace(stages, rules=replace(stages.rules, explore=ExploreConfig()))
        self._hub = LocalHub()
        self._feed = Feed(self._hub)
        bundles.verify()

        def make(version: OpenedVersion, live: LiveVersion) -> Pipeline:
            self._opened = version
            return Pipeline(bundles, drawn_not, version=version, live=live)

        self._version = Growing(opened(bundles, self._feed), make, self._feed)
        came = events.sort("received", "node", "seq").tail(MOST).select(*Event._fields).iter_rows()
        self._to_come = heapq.merge(
            ((event.received, event) for event in map(Event._make, came)),
            ((fact.at, told) for fact in facts for told in of_items([fact])),
            key=itemgetter(0),
        )
        self._next = next(self._to_come, None)

    def orders(self, asked: Iterable[Asked]) -> Iterator[Order]:
        """Of each request, in the order of ``at``."""
        for state in self.states(asked):
            order_S = state.order_S[(state.candidates.sources_K[state.order_S] & PINNED) == 0]
            raw_ids = self.catalogue.item_raw_ids
            rows_S = state.candidates.item_ids_K[order_S]
            yield Order(
                [str(raw_ids[row]) for row in rows_S.tolist()],
                int(np.count_nonzero(order_S < state.num_ranked)),
            )

    def states(self, asked: Iterable[Asked]) -> Iterator[RequestState]:
        """What the stages make of each request, before it is shortened, in the order of ``at``."""
        for one in asked:
            self._tell(one.at)
            request = RecommendRequest(
                user_id=one.user_id,
                k=one.asked,
                request_time=one.request_time,
                context=json.loads(one.context or "{}"),
                **json.loads(one.named or "{}"),
            )
            yield self._version.now.ordered(request)

    @property
    def catalogue(self) -> Catalogue:
        """As of the last request."""
        return self._version.now.catalogue

    @property
    def log(self) -> LookUps | None:
        """What its stages look into, as told until the last request."""
        return self._opened.event_log

    def _tell(self, until: float) -> None:
        told: list[Told] = []
        while self._next is not None and self._next[0] < until:
            told.append(self._next[1])
            self._next = next(self._to_come, None)
        if told:
            self._hub.append(concerning_versions(told))
            self._feed.look()
            while not self._version.position.hub and not self._version.problem:
                time.sleep(WAIT_S)  # what items are is taken in now and then, not each time
                self._feed.look()
