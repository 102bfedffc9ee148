"""What a serving application is told, in raw ids."""

from typing import NamedTuple, TypeAlias


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


Told: TypeAlias = Event | Availability


def id_of(told: Told) -> str | None:
    """By which a hub finds out that it was told this before."""
    return told.event_id if isinstance(told, Event) else None
