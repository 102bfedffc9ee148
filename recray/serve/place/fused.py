"""What the gateway talks to where every stage is in this process."""

import asyncio
from collections.abc import Mapping

from recray.ops.ann import set_num_threads
from recray.serve.events.hub import Hub, LocalHub
from recray.serve.follower import Follower, Loaded
from recray.serve.http import answers
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.answer_cache import Made
from recray.serve.place.config import ServiceConfig
from recray.serve.place.following import follow
from recray.serve.place.hearing import HearingService, feed_of
from recray.serve.place.one_place import OnePlace
from recray.serve.place.pipeline import Pipeline


class FusedService(HearingService):
    """Every stage in this process: no hop between them."""

    def __init__(self, config: ServiceConfig, hub: Hub | None = None) -> None:
        # A replica answers one request at a time: threads per search would only fight each other.
        set_num_threads(1)
        hub = hub or LocalHub()
        feed = feed_of(hub)
        follower = follow(
            config, lambda bundles: Pipeline(bundles, config, config.shown, feed, config.budget_ms)
        )
        super().__init__(config, follower, hub, feed)
        self._pipelines: Follower[Pipeline] = follower
        self._one_explanation = OnePlace("explanations")
        follower.start()

    @property
    def item_rows(self) -> Mapping[str, int]:
        return self.pinned().content.catalogue.item_rows

    def known_until(self) -> int | None:
        return self.pinned().content.known_until

    async def made(self, request: RecommendRequest) -> Made:
        pipeline = self.pinned().content
        if not request.explain:
            return Made(pipeline.recommend(request))
        with self._one_explanation:
            state, unknown = pipeline.ranked(request)
            explained = await asyncio.to_thread(pipeline.with_reasons, state)
            return Made(pipeline.answer(explained, unknown))

    async def similar(self, item_id: str, k: int) -> answers.SimilarItems:
        return self.pinned().content.similar(item_id, k)

    def pinned(self) -> Loaded[Pipeline]:
        """The version for one request, taken once."""
        return self._pipelines.current
