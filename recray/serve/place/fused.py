"""What the gateway talks to where every stage is in this process."""

import asyncio

from recray.ops.ann import set_num_threads
from recray.serve.events.growing import Growing
from recray.serve.events.hub import Hub, LocalHub
from recray.serve.events.live import LiveVersion, opened
from recray.serve.follower import Loaded
from recray.serve.http import answers
from recray.serve.http.made import Made
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.catalogue import Catalogue
from recray.serve.place.config import ServiceConfig
from recray.serve.place.hearing import HearingService, feed_of
from recray.serve.place.one_place import OnePlace
from recray.serve.place.pipeline import Pipeline
from recray.serve.traffic.exposures import Desk
from recray.serve.traffic.recorder import Keeper
from recray.serve.versions import OpenedVersion, ServedBundles


class FusedService(HearingService[Pipeline]):
    """Every stage in this process: no hop between them."""

    def __init__(
        self,
        config: ServiceConfig,
        hub: Hub | None = None,
        desk: Desk | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        # A replica answers one request at a time: threads per search would only fight each other.
        set_num_threads(1)
        hub = hub or LocalHub()
        feed = feed_of(hub)

        def load(bundles: ServedBundles) -> Growing[Pipeline]:
            bundles.verify()

            def make(version: OpenedVersion, live: LiveVersion) -> Pipeline:
                return Pipeline(bundles, config, config.shown, config.budget_ms, version, live)

            return Growing(opened(bundles, feed), make, feed)

        super().__init__(config, load, hub, feed, desk, keeper)
        self._one_explanation = OnePlace("explanations")
        self.start()

    @property
    def catalogue(self) -> Catalogue:
        return self.growing.now.catalogue

    def known_until(self) -> int | None:
        return self.growing.now.known_until

    async def made(self, request: RecommendRequest, loaded: Loaded[Growing[Pipeline]]) -> Made:
        pipeline = loaded.content.now
        if not request.explain:
            return pipeline.made(request)
        with self._one_explanation:
            state, unknown = pipeline.ranked(request)
            explained = await asyncio.to_thread(pipeline.with_reasons, state)
            return pipeline.answered(explained, unknown)

    async def similar(self, item_id: str, k: int) -> answers.SimilarItems:
        return self.growing.now.similar(item_id, k)

    def pinned(self) -> Loaded[Pipeline]:
        """What serves now."""
        loaded = self._serves.current
        return Loaded(loaded.bundles, loaded.content.now, loaded.loaded_at)
