"""Services that are told what happens: one hub for all replicas, a feed in each."""

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from recray.serve.events.feed import Feed
from recray.serve.events.hub import Hub, HubFullError
from recray.serve.events.told import Availability, Told
from recray.serve.follower import Follower
from recray.serve.http import answers
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.place.answer_cache import AnswerCache, Made
from recray.serve.place.config import ServiceConfig
from recray.serve.place.following import FollowingService

log = logging.getLogger(__name__)


class HearingService(FollowingService):
    """A service whose replicas all know what one of them was told.

    Args:
        feed: follows ``hub``; the versions of ``follower`` listen to it.
    """

    def __init__(self, config: ServiceConfig, follower: Follower[Any], hub: Hub, feed: Feed) -> None:
        super().__init__(config, follower)
        self._hub, self._feed = hub, feed
        self._cache = AnswerCache(config, feed) if config.cache_s else None

    @property
    @abstractmethod
    def item_rows(self) -> Mapping[str, int]:
        """Of the raw ids of the version that serves."""

    @abstractmethod
    async def made(self, request: RecommendRequest) -> Made:
        """An answer of its own; raises as ``recommend``."""

    async def recommend(self, request: RecommendRequest) -> answers.Recommendations:
        """
        Raises:
            RequestError: this version cannot answer the request, or not now.
        """
        if self._cache is None:
            return (await self.made(request)).answer
        bundles = self._follower.current.bundles
        question = self._cache.question(request, bundles, len(self.item_rows))
        if question is None:
            return (await self.made(request)).answer
        if again := await self._cache.answer(question):
            return again
        made = await self.made(request)
        await self._cache.keep(question, bundles, made)
        return made.answer

    async def tell(self, told: Sequence[Told]) -> answers.Heard:
        """
        Raises:
            RequestError: 429, no more is taken in; 503, it cannot be kept now; 422, availability is no rule.
        """
        if not self._config.rules.available.enforced and any(isinstance(one, Availability) for one in told):
            message = "availability is no rule of this application: --service.rules.available.enforced is off"
            raise RequestError(422, "not_enforced", message)
        try:
            taken = await asyncio.to_thread(self._hub.append, told)  # it may be in another process
        except HubFullError as error:
            raise RequestError(
                429, "events_full", f"{error}: publish a version that has learnt them, and start anew"
            ) from None
        except Exception as error:  # of whatever kind a hub elsewhere has
            log.exception("what was told could not be kept")
            reason = f"{type(error).__name__}: what is told cannot be kept now: send it again in a while"
            raise RequestError(503, "events_unreachable", reason) from None
        self._feed.wake()
        unknown = {one.item_id for one in told} - self.item_rows.keys()
        return {
            "accepted": taken,
            "repeated": len(told) - taken,
            "unknown_items": sorted(unknown),
            "request_id": "",
        }

    def problem(self) -> str | None:
        return super().problem() or self._feed.problem

    def stop(self) -> None:
        self._feed.stop()
        super().stop()


def feed_of(hub: Hub) -> Feed:
    """A feed that has heard what there is, and follows."""
    feed = Feed(hub)
    feed.look()
    feed.start()
    return feed
