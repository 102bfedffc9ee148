"""Takes down each answer that is given, as it was given."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from recray.event_log.records import Drawn, Event, Exposure, Fact, Recorded
from recray.event_log.tables import Answer, encoded
from recray.event_log.writer import LogNumbers
from recray.serve.http.made import Made
from recray.serve.http.requests import RecommendRequest
from recray.serve.sender import Sender


class Keeper(Protocol):
    """The log of this node; may be in another process."""

    def record(self, events: Sequence[Event], facts: Sequence[Fact] = ()) -> Recorded: ...

    def expose(self, answers: Sequence[Answer]) -> None: ...

    def forget(self, user_id: str) -> None: ...

    def numbers(self) -> LogNumbers: ...


class Given(NamedTuple):
    """An answer, and what was asked."""

    request_id: str
    request: RecommendRequest
    made: Made
    at: float  # unix seconds
    took_ms: float


class Recorder(Sender[Given]):
    """Hands answers to the log of this node, and knows how that does."""

    what = "what is shown"

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self._keeper = keeper
        self.numbers: LogNumbers | None = None  # as of the last time

    def hand_over(self, noted: Sequence[Given]) -> None:
        if noted:
            self._keeper.expose([encoded(exposure_of(given)) for given in noted])
        self.numbers = self._keeper.numbers()


def exposure_of(given: Given) -> Exposure:
    """What is left to do when nobody waits for it."""
    request, answer, went_by = given.request, given.made.answer, given.made.went_by
    arm = answer.get("arm")
    items = tuple(
        Drawn(item["item_id"], item["score"], item["source"], item.get("propensity"), item.get("arm", ""))
        for item in answer["items"]
    )
    return Exposure(
        request_id=given.request_id,
        at=given.at,
        user_id=None if request.user_id is None else str(request.user_id),
        request_time=answer["request_time"],
        asked=request.k,
        items=items,
        version={
            role: f"{one['name']}@{one['version']} {one['digest']}" for role, one in answer["version"].items()
        },
        experiment=arm["experiment"] if arm else "",
        arm=arm["arm"] if arm else "",
        fallback=answer["fallback"],
        skipped=tuple(f"{one['stage']}: {one['reason']}" for one in answer["skipped"]),
        rules=given.made.rules,
        context=request.context,
        took_ms=given.took_ms,
        feature_names=went_by.feature_names if went_by else (),
        features_KF=went_by.features_SF if went_by else None,
    )
