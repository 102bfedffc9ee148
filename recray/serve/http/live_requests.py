"""What a serving application may be told: events, what items are, and what can be had."""

import time
import uuid
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.types import StrictBool, StrictFloat, StrictInt

from recray.event_log.records import WANTED, Event, Kind
from recray.serve.http.requests import RawId, RequestError, UnixSeconds
from recray.serve.item_content import Values

MOST_EVENTS = 1_000
MAX_ITEM_BODY_BYTES = 16 * 1024
MOST_RATING = 2.0**16  # of as many events as a hub keeps, they still add up exactly: log.MAX_RATING_SUM
MOST_VALUE = 2.0**53  # prices are in any currency: nothing is learnt from them, and sums stay finite
CLOCKS_MAY_DIFFER_S = 60

Rating = Annotated[StrictFloat | StrictInt, Field(ge=-MOST_RATING, le=MOST_RATING, allow_inf_nan=False)]
Value = Annotated[StrictFloat | StrictInt, Field(ge=-MOST_VALUE, le=MOST_VALUE, allow_inf_nan=False)]


class EventBody(BaseModel):
    """A user had to do with an item."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: RawId | None = Field(None, description="absent: it counts for the item alone")
    item_id: RawId
    rating: Rating | None = Field(
        None, description="how much it liked the item: then it is a rating, where no kind is named"
    )
    value: Value | None = Field(None, description="a price paid, a number of pieces, in place of a rating")
    time: UnixSeconds | None = Field(None, description="unix seconds; absent: now")
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=200, strict=True)] | None = Field(
        None, description="an event with an id that was told before is not counted again"
    )
    kind: Kind = Field(
        "click",
        description=f"{', '.join(sorted(WANTED))} are part of histories and counts; what is "
        "dismissed does not come back to that user; others are taken down",
    )
    request_id: Annotated[str, StringConstraints(min_length=1, max_length=100, strict=True)] | None = Field(
        None, description="as it stands in the answer that showed the item (x-request-id is not it)"
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
            RequestError: 422, an event of the future, or one with two numbers.
        """
        now = time.time()
        return [self._told(place, body, key, now) for place, body in enumerate(self.events)]

    def _told(self, place: int, body: EventBody, key: str | None, now: float) -> Event:
        at = int(now) if body.time is None else body.time
        if at > now + CLOCKS_MAY_DIFFER_S:
            message = f"events[{place}].time: {at} is in the future, it is {int(now)}"
            raise RequestError(422, "invalid_request", message)
        if body.rating is not None and body.value is not None:
            raise RequestError(422, "invalid_request", f"events[{place}]: send a rating or a value, not both")
        said = body.value if body.rating is None else body.rating
        value = 1.0 if said is None else float(said)
        is_rating = body.rating is not None and "kind" not in body.model_fields_set
        if body.kind == "rating" and abs(value) > MOST_RATING:
            message = f"events[{place}].value: of a rating at most {MOST_RATING:.0f}, got {value:g}"
            raise RequestError(422, "invalid_request", message)
        return Event(
            user_id=None if body.user_id is None else str(body.user_id),
            item_id=str(body.item_id),
            value=value,
            at=float(min(at, int(now))),  # by a clock that is ahead of ours: it happened now
            event_id=body.event_id or (f"{key}:{place}" if key else uuid.uuid4().hex),
            kind="rating" if is_rating else body.kind,
            request_id=body.request_id,
            received=now,
        )


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
