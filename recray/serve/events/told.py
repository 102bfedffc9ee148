"""What a serving application is told, in raw ids."""

from typing import NamedTuple, TypeAlias

from recray.serve.item_content import Values


class Event(NamedTuple):
    """A user had to do with an item."""

    user_id: str | None  # None: nobody in particular
    item_id: str
    rating: float
    time: int  # unix seconds
    event_id: str | None = None  # whoever sends it again says the same; None: it is another one each time


class Availability(NamedTuple):
    """Whether an item can be had, from now on."""

    item_id: str
    available: bool


class Content(NamedTuple):
    """What an item is: a new one, or a known one from now on."""

    item_id: str
    values: Values  # of columns that were named; the others stay as they were


class Outcome(NamedTuple):
    """What somebody did with an item of an answer: of use to experiments alone."""

    request_id: str  # of the answer
    item_id: str
    kind: str
    at: float  # unix seconds


Told: TypeAlias = Event | Availability | Content


def id_of(told: Told) -> str | None:
    """By which a hub finds out that it was told this before."""
    return told.event_id if isinstance(told, Event) else None
