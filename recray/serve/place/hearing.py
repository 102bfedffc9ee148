"""Services that are told what happens: one hub for all replicas, a feed in each."""

import asyncio
import logging
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from recray.config import ConfigError, to_dict
from recray.event_log.records import Recorded, Telling
from recray.event_log.writer import LogBusyError, LogFailedError
from recray.features.columns import AVAILABILITY
from recray.serve.events.feed import Feed
from recray.serve.events.growing import MOST_ITEMS, Growing
from recray.serve.events.hub import Hub, HubFullError
from recray.serve.events.recorded import concerning_versions, facts_of
from recray.serve.events.told import Availability, Content, Event, Gone, Told
from recray.serve.follower import Follower, Loaded
from recray.serve.http import answers
from recray.serve.http.admin import Change, Forget, Promotion, Rollback
from recray.serve.http.live_requests import ItemRequest
from recray.serve.http.made import Made
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.http.traffic_answers import Traffic
from recray.serve.item_content import Values, check
from recray.serve.kept.answer_cache import AnswerCache
from recray.serve.kept.answer_store import AnswerStore, LocalAnswers
from recray.serve.place.catalogue import Catalogue
from recray.serve.place.config import ServiceConfig
from recray.serve.place.following import FollowingService, follow
from recray.serve.place.hub_actor import REDIS_URL
from recray.serve.together import Together
from recray.serve.traffic.administer import carry_out
from recray.serve.traffic.arms import Arms
from recray.serve.traffic.described import described
from recray.serve.traffic.exposures import Desk, Reporter
from recray.serve.traffic.operations import Operations
from recray.serve.traffic.recorder import Given, Keeper, Recorder
from recray.serve.traffic.router import PRODUCTION, Router, is_counted
from recray.serve.versions import ServedBundles
from recray.store import StoreError

log = logging.getLogger(__name__)


CANNOT_GROW = "writes items by codes that training made: train it with the new ones, or serve a retriever"


T = TypeVar("T")


class HearingService(FollowingService, Generic[T]):
    """A service whose replicas all know what one of them was told, and which users get which version.

    Args:
        load: what serves of a version; it listens to ``feed``, which follows ``hub``.
        desk: takes in what is learnt of experiments; None: there are none.
        keeper: takes down what is shown and told; None: nobody does.
    """

    def __init__(
        self,
        config: ServiceConfig,
        load: Callable[[ServedBundles], Growing[T]],
        hub: Hub,
        feed: Feed,
        desk: Desk | None,
        keeper: Keeper | None = None,
    ) -> None:
        store, application, second = config.open_store(), config.application, config.second_source
        self._arms = Arms(store, application, load, second_source=second, poll_s=config.poll_s)
        self._serves: Follower[Growing[T]] = follow(config, load, self._arms)
        super().__init__(config, self._serves)
        self._hub, self._feed, self._desk = hub, feed, desk
        self._cache = cache_of(config, feed) if config.cache_s else None
        self._telling = Together(self._keep, "tell")
        self._keeper, self._recorder = keeper, Recorder(keeper) if keeper else None
        self._reporter = Reporter(desk) if desk else None
        self._router = (
            Router(self._arms, self._reporter, self._answer, config.budget_ms) if self._reporter else None
        )

    def start(self) -> None:
        """Begins to follow names and experiments."""
        self._serves.start()
        if self._recorder:
            self._recorder.start()
        if self._reporter:
            self._reporter.start()
            self._arms.start()

    @property
    def growing(self) -> Growing[T]:
        """Of the version that serves."""
        return self._serves.current.content

    @property
    @abstractmethod
    def catalogue(self) -> Catalogue:
        """Of the version that serves."""

    @abstractmethod
    async def made(self, request: RecommendRequest, loaded: Loaded[Growing[T]]) -> Made:
        """An answer of its own, by one version; raises as ``recommend``."""

    async def recommend(
        self, request: RecommendRequest, request_id: str = "", trace_id: str = ""
    ) -> answers.Recommendations:
        """By the version that the user is to get.

        Raises:
            RequestError: this version cannot answer the request, or not now.
        """
        began = time.perf_counter()
        production = self._serves.current  # taken once: the version for one request
        if self._router is None:
            made = await self._answer(request, production)
        else:
            made = await self._router.recommend(request, request_id, production)
        if self._recorder and is_counted(request):
            took_ms = (time.perf_counter() - began) * 1e3
            self._recorder.note_given(Given(request_id, request, made, time.time(), took_ms, trace_id))
        return made.answer

    async def _answer(
        self, request: RecommendRequest, loaded: Loaded[Growing[T]], arm: str = PRODUCTION
    ) -> Made:
        if self._cache is None:
            return await self.made(request, loaded)
        question = self._cache.question(request, loaded.bundles, loaded.content.revision, arm)
        if question is None:
            return await self.made(request, loaded)
        if again := await self._cache.answer(question):
            return again
        made = await self.made(request, loaded)
        await self._cache.keep(question, loaded.bundles, made)
        return made

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
        available = self._said_of_stock(request.content) if request.available is None else request.available
        if available is not None:
            told.append(Availability(item_id, available))
        if not told:
            raise RequestError(422, "invalid_request", "body: say something of the item, such as available")
        return await self.tell(told)

    def _said_of_stock(self, content: Values) -> bool | None:
        """Whether an item can be had, by the columns that say so: what is told of them later counts too."""
        rule = self._config.rules.available
        names = (rule.column,) if rule.column else AVAILABILITY
        said = [content[name] for name in names if name in content] if rule.enforced else []
        numbers = [value for value in said if isinstance(value, bool | int | float)]
        return all(value > 0 for value in numbers) if numbers else None

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
        """Takes it down, then tells all replicas what concerns their versions, and the desk what claims an
        answer.

        Raises:
            RequestError: 429, no more is taken in; 503, it cannot be kept now; 422, availability is no rule.
        """
        if not self._config.rules.available.enforced and any(isinstance(one, Availability) for one in told):
            message = "availability is no rule of this application: --service.rules.available.enforced is off"
            raise RequestError(422, "not_enforced", message)
        try:
            # Elsewhere, on a disk: whoever waits at the same time shares a call and a commit.
            repeated = await asyncio.wrap_future(self._telling.ask(told))
        except HubFullError as error:
            raise RequestError(
                429, "events_full", f"{error}: publish a version that has learnt them, and start anew"
            ) from None
        except LogBusyError as error:
            raise RequestError(503, "events_busy", f"{error}: send it again", {"retry-after": "1"}) from None
        except LogFailedError as error:
            raise RequestError(503, "events_not_kept", f"{error}: make room, and send it again") from None
        except Exception as error:  # of whatever kind a hub elsewhere has
            log.exception("what was told could not be kept")
            reason = f"{type(error).__name__}: what is told cannot be kept now: send it again in a while"
            raise RequestError(503, "events_unreachable", reason) from None
        self._feed.wake()
        for one in told if self._reporter else ():
            if self._reporter and isinstance(one, Event) and one.request_id is not None:
                self._reporter.note(one)
        rows, new = self.catalogue.item_rows, {one.item_id for one in told if isinstance(one, Content)}
        others = {one.item_id for one in told if not isinstance(one, Gone)} - rows.keys() - new
        unknown = {item for item in others if not self.growing.has_been_told_of(item)}
        return {
            "accepted": len(told) - repeated,
            "repeated": repeated,
            "unknown_items": sorted(unknown),
            "request_id": "",
        }

    def _keep(self, tellings: Sequence[Sequence[Told]]) -> list[int | Exception]:
        """For each how much was known already, or why it is not kept. What the log has and the hub has not is
        told again by whoever was not answered: then the hub takes it in."""
        if self._keeper is None:
            return [self._known_to_hub(told) for told in tellings]
        now = time.time()
        events = [[one for one in told if isinstance(one, Event)] for told in tellings]
        recorded = self._keeper.record_each(
            [Telling(each, facts_of(told, now)) for each, told in zip(events, tellings, strict=True)]
        )
        kept = [told for told, one in zip(tellings, recorded, strict=True) if isinstance(one, Recorded)]
        full = iter(self._full_for(kept))
        return [next(full) or one.repeated if isinstance(one, Recorded) else one for one in recorded]

    def _known_to_hub(self, told: Sequence[Told]) -> int | HubFullError:
        versions = concerning_versions(told)
        try:
            return len(versions) - self._hub.append(versions)
        except HubFullError as error:
            return error

    def _full_for(self, tellings: Sequence[Sequence[Told]]) -> list[HubFullError | None]:
        """Tells the hub; for each why that does not take it in, None where it does."""
        versions = concerning_versions(one for told in tellings for one in told)
        try:
            if versions:
                self._hub.append(versions)
        except HubFullError as error:
            if len(tellings) == 1:
                return [error]
            return [full for told in tellings for full in self._full_for([told])]
        return [None] * len(tellings)

    def traffic(self) -> Traffic:
        """What runs on live traffic, and what is known of it."""
        try:
            numbers = self._desk.numbers() if self._desk else {}
        except Exception as error:  # of whatever kind a desk elsewhere has
            numbers = {"problem": f"what is known is out of reach: {type(error).__name__}: {error}"[:1000]}
        try:
            return described(self._config.open_store(), self._config.application, time.time(), numbers)
        except StoreError as error:
            raise RequestError(503, "store_unreadable", str(error)) from None

    def administer(self, change: Change) -> None:
        """
        Raises:
            ConfigError: it cannot be done as things stand.
            RequestError: 503, a user is not forgotten yet.
        """
        if isinstance(change, Forget):
            self._forget(str(change.user_id))
            return
        if self._desk is None and not isinstance(change, Promotion | Rollback):
            raise ConfigError(f"experiments are on production, and {self._config.name} is followed here")
        carry_out(Operations(self._config.open_store(), self._config.application, change.by), change)

    def _forget(self, user_id: str) -> None:
        time.sleep(2 * Recorder.every_s)  # what replicas were about to hand over comes before
        try:
            if self._keeper:
                self._keeper.forget(user_id)
            self._hub.append([Gone(user_id)])
        except Exception as error:  # of whatever kind a log or a hub elsewhere has
            log.exception("a user could not be forgotten")
            reason = f"{type(error).__name__}: it is not all deleted yet: send it again in a while"
            raise RequestError(503, "not_forgotten", reason) from None
        self._feed.wake()

    def log(self) -> answers.TakenDown | None:
        recorder = self._recorder
        if recorder is None or (numbers := recorder.numbers) is None:
            return None
        return {
            "events": numbers.events,
            "repeated": numbers.repeated,
            "answers": numbers.answers,
            "waiting": numbers.waiting,
            "commits": numbers.commits,
            "commit_s": round(numbers.commit_s, 3),
            "unsent": recorder.waiting,
            "lost": recorder.dropped,
        }

    def problem(self) -> str | None:
        loaded = self._serves.loaded
        return (
            super().problem()
            or self._feed.problem
            or (loaded.content.problem if loaded else None)
            or self._arms.problem
            or (self._reporter.problem if self._reporter else None)
            or (self._recorder.says() if self._recorder else None)
        )

    def stop(self) -> None:
        self._feed.stop()
        self._arms.stop()
        for sender in (self._reporter, self._recorder):
            if sender:
                sender.stop()
        self._telling.stop()
        super().stop()


def feed_of(hub: Hub) -> Feed:
    """A feed that has heard what there is, and follows."""
    feed = Feed(hub)
    feed.look()
    feed.start()
    return feed


def cache_of(config: ServiceConfig, feed: Feed) -> AnswerCache:
    """In Redis where ``RECRAY_REDIS_URL`` names one, else in this process."""
    store: AnswerStore = LocalAnswers(config.cache_s)
    if url := os.environ.get(REDIS_URL):
        from recray.serve.kept.redis_answers import RedisAnswers

        store = RedisAnswers(url, config.application, config.cache_s)
    options = {**to_dict(config), "files": config.rules.allowed.contents()}
    return AnswerCache(store, feed, options, keep_s=config.cache_s)
