"""What replicas say of the answers that they gave to users of experiments."""

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from recray.event_log.records import Event
from recray.serve.sender import Sender


class ArmAnswer(NamedTuple):
    """An answer of an experiment."""

    experiment: str  # its salt
    arm: str  # "": of both arms, item by item
    user: str
    at: float  # unix seconds
    took_ms: float
    failed: bool  # production answered instead
    empty: bool
    fell_back: bool  # without the user's own vector, or a stage
    request_id: str
    items: tuple[str, ...]  # raw ids, best first
    teams: tuple[str, ...] = ()  # the arm that each item is of


class Shadowed(NamedTuple):
    """A version was asked what another one had been asked."""

    experiment: str  # its salt
    at: float
    took_ms: float
    shown_ms: float  # what the answer took that was shown
    failed: bool
    overlap: float  # share of the shown items that it has too
    correlation: float  # of the ranks of those that both have (Spearman); NaN: fewer than two


class LeftOut(NamedTuple):
    """A shadow that there was no time for."""

    experiment: str  # its salt


Noted: TypeAlias = ArmAnswer | Shadowed | Event | LeftOut


class Batch(NamedTuple):
    """What one process noted in a while; it is sent until it is taken, and counts once."""

    reporter: str
    number: int  # of this reporter's, from 1
    noted: tuple[Noted, ...]
    dropped: int  # for which there was no room


class Desk(Protocol):
    """Where all replicas leave what they noted; may be in another process."""

    def take(self, batch: Batch) -> None:
        """A batch that is there already is left out: who sent it may have heard no answer."""

    def numbers(self) -> dict[str, Any]:
        """What is known of each running experiment."""


class Reporter(Sender[Noted]):
    """Tells the desk what this process noted."""

    what = "what is learnt of experiments"

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._name, self._told_dropped = secrets.token_hex(8), 0

    def hand_over(self, noted: Sequence[Noted]) -> None:
        dropped = self.dropped
        if noted or dropped > self._told_dropped:
            self._desk.take(Batch(self._name, self.number, tuple(noted), dropped - self._told_dropped))
            self._told_dropped = dropped
