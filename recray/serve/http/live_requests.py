"""What a serving application may be told: events, what items are, and what can be had."""

import time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.types import StrictBool, StrictFloat, StrictInt

from recray.serve.events.told import Event, Outcome
from recray.serve.http.requests import RawId, RequestError, UnixSeconds
from recray.serve.item_content import Values

MOST_EVENTS = 1_000
MAX_ITEM_BODY_BYTES = 16 * 1024
MOST_RATING = 2.0**16  # of as many events as a hub keeps, they still add up exactly: log.MAX_RATING_SUM
CLOCKS_MAY_DIFFER_S = 60


class EventBody(BaseModel):
    """A user had to do with an item."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: RawId | None = Field(None, description="absent: it counts for the item alone")
    item_id: RawId
    rating: Annotated[
        StrictFloat | StrictInt, Field(ge=-MOST_RATING, le=MOST_RATING, allow_inf_nan=False)
    ] = 1.0
    time: UnixSeconds | None = Field(None, description="unix seconds; absent: now")
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=200, strict=True)] | None = Field(
        None, description="an event with an id that was told before is not counted again"
    )
    kind: Literal["click", "purchase", "impression"] = Field(
        "click", description="an impression is no part of histories and counts"
    )
    request_id: Annotated[str, StringConstraints(min_length=1, max_length=100, strict=True)] | None = Field(
        None, description="of the answer that showed the item: experiments go by it"
    )


class EventsRequest(BaseModel):
    """Body of ``POST /events``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: Annotated[list[EventBody], Field(min_length=1, max_length=MOST_EVENTS)]

    def told(self, key: str | None = None) -> tuple[list[Event], list[Outcome]]:
        """What versions are told, and what experiments are.

        Args:
            key: of the request: under it, events that have no id of their own count once.
        Raises:
            RequestError: 422, an event of the future.
        """
        now = int(time.time())
        told, outcomes = list[Event](), list[Outcome]()
        for place, event in enumerate(self.events):
            at = now if event.time is None else event.time
            if at > now + CLOCKS_MAY_DIFFER_S:
                message = f"events[{place}].time: {at} is in the future, it is {now}"
                raise RequestError(422, "invalid_request", message)
            user = None if event.user_id is None else str(event.user_id)
            item_id, known_by = str(event.item_id), event.event_id or (f"{key}:{place}" if key else None)
            at = min(at, now)  # by a clock that is ahead of ours: it happened now
            if event.kind != "impression":
                told.append(Event(user, item_id, float(event.rating), at, known_by))
            if event.request_id is not None:
                outcomes.append(Outcome(event.request_id, item_id, event.kind, float(at)))
        return told, outcomes


class ItemRequest(BaseModel):
    """Body of ``PUT /items/{item_id}``: whether it can be had, and what it is, by the columns of the
    catalogue: ``{"title": "...", "genres": ["..."], "price": 9.9, "available": true}``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    available: StrictBool | None = Field(
        None, description="false: never served any more, until it is true again"
    )

    @property
    def content(self) -> Values:
        """By column; what it does not name stays as it was."""
        return self.model_extra or {}
