"""Takes down each answer that is given, as it was given."""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from recray.event_log.records import Drawn, Exposure, Recorded, Sent, Telling
from recray.event_log.tables import Answer, encoded
from recray.event_log.writer import LogBusyError, LogFailedError, LogNumbers
from recray.serve.http.made import Made
from recray.serve.http.requests import RecommendRequest
from recray.serve.sender import Sender
from recray.serve.version import Version

ASK_EVERY_S = 2.0
NAMED = {"history", "history_times", "exclude"}
MOST_NAMED = 16_384  # characters: what waits for the disk is bounded by answers, so that each is small


class Keeper(Protocol):
    """The log of this node; may be in another process."""

    def record_each(
        self, tellings: Sequence[Telling]
    ) -> Sequence[Recorded | LogBusyError | LogFailedError]: ...

    def expose(self, answers: Sequence[Answer], sent: Sent | None = None) -> None: ...

    def forget(self, user_id: str) -> None: ...

    def numbers(self) -> LogNumbers: ...


class Given(NamedTuple):
    """An answer, and what was asked."""

    request_id: str
    request: RecommendRequest
    made: Made
    at: float  # unix seconds
    took_ms: float
    trace_id: str = ""


class Recorder(Sender[Answer]):
    """Hands answers to the log of this node, and knows how that does.

    They are made bytes at once, while a processor has them at hand: that takes a hundredth of a request, and
    what waits is little, and of no concern to the garbage collector.
    """

    what = "what is shown"
    every_s = 0.5  # each time costs this process and the log as much as a request

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self._keeper, self._name = keeper, secrets.token_hex(8)
        self.numbers: LogNumbers | None = None  # as of the last time
        self._ask_at = 0.0  # monotonic time

    def note_given(self, given: Given) -> None:
        self.note(encoded(exposure_of(given)))

    def says(self) -> str | None:
        """What is wrong with the log, or with handing over to it."""
        return self.problem or (self.numbers.problem if self.numbers else None)

    def hand_over(self, noted: Sequence[Answer]) -> None:
        if noted:
            self._keeper.expose(noted, Sent(self._name, self.number))
        now = time.monotonic()
        if now >= self._ask_at or (self.numbers and self.numbers.problem):
            self.numbers, self._ask_at = self._keeper.numbers(), now + ASK_EVERY_S


def exposure_of(given: Given) -> Exposure:
    """As the log keeps it."""
    request, answer, went_by = given.request, given.made.answer, given.made.went_by
    arm = answer.get("arm")
    own = [_named(version) for version in given.made.versions]
    items = tuple(
        Drawn(
            item["item_id"],
            item["score"],
            item["source"],
            item.get("propensity"),
            item.get("arm", ""),
            own[place] if own else None,
        )
        for place, item in enumerate(answer["items"])
    )
    return Exposure(
        request_id=given.request_id,
        at=given.at,
        user_id=None if request.user_id is None else str(request.user_id),
        request_time=answer["request_time"],
        asked=request.k,
        items=items,
        version=_named(answer["version"]),
        experiment=arm["experiment"] if arm else "",
        arm=arm["arm"] if arm else "",
        fallback=answer["fallback"],
        skipped=tuple(f"{one['stage']}: {one['reason']}" for one in answer["skipped"]),
        rules=given.made.rules,
        context=request.context,
        took_ms=given.took_ms,
        trace_id=given.trace_id,
        brought=len(request.history or ()) + len(request.exclude),
        named=_named_items(request),
        feature_names=went_by.feature_names if went_by else (),
        features_KF=went_by.features_SF if went_by else None,
    )


def _named_items(request: RecommendRequest) -> str:
    if request.history is None and not request.exclude:
        return ""
    named = request.model_dump_json(include=NAMED, exclude_unset=True)
    return named if len(named) <= MOST_NAMED else ""


def _named(version: Mapping[str, Version]) -> dict[str, str]:
    return {role: f"{one['name']}@{one['version']} {one['digest']}" for role, one in version.items()}
