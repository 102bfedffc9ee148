"""What a serving application may be told: events, what items are, and what can be had."""

import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.types import StrictBool, StrictFloat, StrictInt

from recray.serve.events.told import Event
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


class EventsRequest(BaseModel):
    """Body of ``POST /events``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: Annotated[list[EventBody], Field(min_length=1, max_length=MOST_EVENTS)]

    def told(self, key: str | None = None) -> list[Event]:
        """
        Args:
            key: of the request: under it, events that have no id of their own count once.
        Raises:
            RequestError: 422, an event of the future.
        """
        now, told = int(time.time()), []
        for place, event in enumerate(self.events):
            at = now if event.time is None else event.time
            if at > now + CLOCKS_MAY_DIFFER_S:
                message = f"events[{place}].time: {at} is in the future, it is {now}"
                raise RequestError(422, "invalid_request", message)
            user = None if event.user_id is None else str(event.user_id)
            known_by = event.event_id or (f"{key}:{place}" if key else None)
            # By a clock that is ahead of ours: it happened now.
            told.append(Event(user, str(event.item_id), float(event.rating), min(at, now), known_by))
        return told


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
