"""What a serving application is told, in raw ids."""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from recray.event_log.records import Event
from recray.serve.item_content import Values

__all__ = ["Availability", "Content", "Event", "Gone", "Told", "id_of", "without"]


class Availability(NamedTuple):
    """Whether an item can be had, from now on."""

    item_id: str
    available: bool


class Content(NamedTuple):
    """What an item is: a new one, or a known one from now on."""

    item_id: str
    values: Values  # of columns that were named; the others stay as they were


class Gone(NamedTuple):
    """A user is forgotten: what was told of it before counts no more."""

    user_id: str


Told: TypeAlias = Event | Availability | Content | Gone


def id_of(told: Told) -> str | None:
    """By which a hub finds out that it was told this before."""
    return told.event_id or None if isinstance(told, Event) else None


def without(told: Iterable[Told], user_id: str) -> list[Told]:
    """What does not name a user."""
    return [one for one in told if not isinstance(one, Event | Gone) or one.user_id != user_id]
