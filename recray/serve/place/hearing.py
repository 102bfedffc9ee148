"""Services that are told what happens: one hub for all replicas, a feed in each."""

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from recray.serve.events.feed import Feed
from recray.serve.events.growing import MOST_ITEMS, Growing
from recray.serve.events.hub import Hub, HubFullError
from recray.serve.events.told import Availability, Content, Told
from recray.serve.follower import Follower
from recray.serve.http import answers
from recray.serve.http.live_requests import ItemRequest
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.item_content import Values, check
from recray.serve.place.answer_cache import AnswerCache, Made
from recray.serve.place.catalogue import Catalogue
from recray.serve.place.config import ServiceConfig
from recray.serve.place.following import FollowingService

log = logging.getLogger(__name__)


CANNOT_GROW = "writes items by codes that training made: train it with the new ones, or serve a retriever"


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
    def growing(self) -> Growing[Any]:
        """Of the version that serves."""

    @property
    @abstractmethod
    def catalogue(self) -> Catalogue:
        """Of the version that serves."""

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
        question = self._cache.question(request, bundles, self.growing.revision)
        if question is None:
            return (await self.made(request)).answer
        if again := await self._cache.answer(question):
            return again
        made = await self.made(request)
        await self._cache.keep(question, bundles, made)
        return made.answer

    async def tell_of_item(self, item_id: str, request: ItemRequest) -> answers.Heard:
        """
        Raises:
            RequestError: 422, the items of the version that serves have no such column or value, or it
                cannot take in new items; else as ``tell``.
        """
        told: list[Told] = []
        if not (item_id := item_id.strip()):
            raise RequestError(422, "invalid_request", "item_id: must not be empty")
        if request.content:
            self._check_content(item_id, request.content)
            told.append(Content(item_id, request.content))
        if request.available is not None:
            told.append(Availability(item_id, request.available))
        if not told:
            raise RequestError(422, "invalid_request", "body: say something of the item, such as available")
        return await self.tell(told)

    def _check_content(self, item_id: str, content: Values) -> None:
        bundles = self._follower.current.bundles
        if bundles.is_generative:
            raise RequestError(422, "cannot_register", f"{bundles.retriever.reference} {CANNOT_GROW}")
        try:
            item_id.encode()
            check(content, self.catalogue.schema)
        except ValueError as error:
            raise RequestError(422, "invalid_request", str(error)) from None
        growing = self.growing
        if growing.is_full and not growing.has_been_told_of(item_id):
            message = f"the content of {MOST_ITEMS:,} items is kept: publish a version that has learnt them"
            raise RequestError(429, "items_full", message)

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
        rows, new = self.catalogue.item_rows, {one.item_id for one in told if isinstance(one, Content)}
        others = {one.item_id for one in told if one.item_id not in rows} - new
        unknown = {item for item in others if not self.growing.has_been_told_of(item)}
        return {
            "accepted": taken,
            "repeated": len(told) - taken,
            "unknown_items": sorted(unknown),
            "request_id": "",
        }

    def problem(self) -> str | None:
        loaded = self._follower.loaded
        return super().problem() or self._feed.problem or (loaded.content.problem if loaded else None)

    def stop(self) -> None:
        self._feed.stop()
        super().stop()


def feed_of(hub: Hub) -> Feed:
    """A feed that has heard what there is, and follows."""
    feed = Feed(hub)
    feed.look()
    feed.start()
    return feed
