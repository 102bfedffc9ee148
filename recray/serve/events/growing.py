"""What is made of a version, made anew where more is said of its items: beside, and then swapped."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from recray.serve.events.feed import Feed
from recray.serve.events.live import LiveVersion, live_version
from recray.serve.events.told import Content, Told
from recray.serve.extended import ExtendedVersion
from recray.serve.item_content import Values
from recray.serve.position import Position
from recray.serve.versions import OpenedVersion

log = logging.getLogger(__name__)

MOST_ITEMS = 10_000  # of which something is said between two versions, a kilobyte or two each
IDLE_SHARE = 3.0  # so many times what it took to make, nothing is made anew: requests need the processor too
LONGEST_IDLE_S = 2.0

T = TypeVar("T")


class Growing(Generic[T]):
    """Holds what serves of one version, and listens to a feed for it.

    Args:
        version: as it was published.
        make: what serves of a version; called in the background, with what is told of the version.
    Raises:
        ConfigError, DataError: as ``make`` does of the version as it was published.
    """

    def __init__(
        self,
        version: OpenedVersion,
        make: Callable[[OpenedVersion, LiveVersion], T],
        feed: Feed,
    ) -> None:
        self._published, self._make, self._feed = version, make, feed
        self.problem: str | None = None
        # By raw id, in the order in which they were first told of; what the version says itself is not here.
        self._content: dict[str, Values] = {}
        self._live = live_version(version)
        self._making = threading.Lock()
        self._heard = self._made_of = 0  # changes of the content
        self._not_before = 0.0  # monotonic time
        self.revision = 0  # changes of the content that ``now`` knows
        with self._making:
            feed.attach(self)
            now = self._extended() if self._content else None
            self.now: T = make(version, self._live) if now is None else now
            if now is not None:
                self.revision = self._made_of

    def tell(self, told: Sequence[Told]) -> None:
        """Called by one thread at a time, while others ask."""
        self._live.tell(told)
        said: dict[str, Values] = {}
        for one in told:
            if isinstance(one, Content):
                before = said.get(one.item_id) or self._content.get(one.item_id, {})
                said[one.item_id] = {**before, **one.values}
        learnt = self._published.knows(said) if said else set[str]()  # a log tells again what it has
        self._heard += len(said.keys() - learnt) + len(self._content.keys() & learnt)
        self._content.update(said)
        for item_id in learnt:
            del self._content[item_id]

    def grow(self) -> None:
        """Takes in what was said of items since, all at once; not where that was tried a moment ago."""
        if self.revision == self._heard or time.monotonic() < self._not_before:
            return
        if self._making.acquire(blocking=False):  # whoever makes the first one takes in all that there is
            try:
                now = self._extended()
                if now is not None:
                    self.now, self.revision = now, self._made_of
            finally:
                self._making.release()

    def _extended(self) -> T | None:
        """What serves of the version as it is now; None, with a ``problem``, where that cannot be made."""
        began = time.monotonic()
        with self._feed.silence():
            content, self._made_of = dict(self._content), self._heard
        try:
            version = ExtendedVersion(self._published, content)
            live = live_version(version)
            made = self._make(version, live)
            with self._feed.silence():
                live.take_over(self._live)
                self._live = live
        except Exception as error:  # whatever is wrong with what was said, the version must go on
            problem = f"what was told of items is not taken in: {type(error).__name__}: {error}"[:1000]
            if problem != self.problem:
                log.exception("%s does not take in new items", self._published.bundles.reference)
            self.problem, self._not_before = problem, time.monotonic() + LONGEST_IDLE_S
            return None
        took_s = time.monotonic() - began
        self._not_before = time.monotonic() + min(IDLE_SHARE * took_s, LONGEST_IDLE_S)
        self.problem = None
        log.info("%d items told of are taken in, %.2f s", len(content), took_s)
        return made

    @property
    def position(self) -> Position:
        """How far is heard and known to ``now``; nowhere, while something waits to be taken in."""
        position = self._feed.position
        return position if self.revision == self._heard else Position("", 0)

    def has_been_told_of(self, item_id: str) -> bool:
        return item_id in self._content

    @property
    def is_full(self) -> bool:
        """Whether nothing can be said of further items."""
        return len(self._content) >= MOST_ITEMS
