"""What a serving application is told, in raw ids."""

from typing import NamedTuple, TypeAlias


class Event(NamedTuple):
    """A user had to do with an item."""

    user_id: str | None  # None: nobody in particular
    item_id: str
    rating: float
    time: int  # unix seconds


class Availability(NamedTuple):
    """Whether an item can be had, from now on."""

    item_id: str
    available: bool


Told: TypeAlias = Event | Availability
