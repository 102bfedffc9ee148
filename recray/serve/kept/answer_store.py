"""Answers that a process keeps for a while, and what else may keep them."""

from typing import NamedTuple, Protocol

from cachetools import TTLCache

from recray.serve.http import answers
from recray.serve.http.made import WentBy

MOST_ITEMS = 100_000  # in all answers that a process keeps: half a kilobyte each


class KeptAnswer(NamedTuple):
    made_at: float  # unix seconds
    answer: answers.Recommendations
    rules: tuple[str, ...] = ()  # as of ``Made``
    went_by: WentBy | None = None


class AnswerStore(Protocol):
    """Where answers are kept; forgets them by itself. Never raises."""

    async def get(self, key: str) -> KeptAnswer | None: ...

    async def put(self, key: str, kept: KeptAnswer) -> None: ...


class LocalAnswers:
    """In this process."""

    def __init__(self, keep_s: float) -> None:
        self._kept: TTLCache[str, KeptAnswer] = TTLCache(
            MOST_ITEMS, keep_s, getsizeof=lambda kept: 1 + len(kept.answer["items"])
        )

    async def get(self, key: str) -> KeptAnswer | None:
        return self._kept.get(key)

    async def put(self, key: str, kept: KeptAnswer) -> None:
        self._kept[key] = kept
