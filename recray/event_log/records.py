"""What stands in the log, in raw ids: an answer with its items (exposure), and what somebody did (event).

Times are unix seconds. What one answer says of its K items is parallel: K ids, K scores, K x F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, get_args

from recray.arrays import Float32s

Kind: TypeAlias = Literal["impression", "click", "cart", "purchase", "rating", "dismissal", "custom"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WANTED: frozenset[Kind] = frozenset({"click", "cart", "purchase", "rating"})
"""After these a user has had to do with an item: they are part of histories, seen items and counts."""

Value: TypeAlias = bool | int | float | str


class Event(NamedTuple):
    """Somebody had to do with an item."""

    user_id: str | None  # None: nobody in particular
    item_id: str
    value: float  # a rating, a price paid, a number of pieces; 1 where nothing was said
    at: float  # when it happened, as its sender says
    event_id: str = ""  # whoever sends it again says the same; empty: it is another one each time
    kind: Kind = "click"
    request_id: str | None = None  # of the answer that it claims to follow
    received: float = 0.0  # when it came

    @property
    def rating(self) -> float:
        """How much the item is liked, as far as that was said: a price is no rating."""
        return self.value if self.kind == "rating" else 1.0


class Drawn(NamedTuple):
    """One item of an answer, at its rank."""

    item_id: str
    score: float | None  # of the last stage that scored; None: unscored
    source: str  # which first stage found it, or ``pinned``
    propensity: float | None = None  # chance of the draw, given those before it; None: nothing was drawn
    arm: str = ""  # whose item it is where two versions' lists are drawn from in turns
    version: Mapping[str, str] | None = None  # that it is of, by role; None: of the answer's


@dataclass(frozen=True)
class Exposure:
    """An answer, as it was given."""

    request_id: str  # of this answer alone
    at: float  # when it was given
    user_id: str | None
    request_time: int  # that features went by
    asked: int  # items that were asked for
    items: tuple[Drawn, ...]  # best first; rank 1 is the first one
    version: Mapping[str, str]  # by role, ``name@number digest``
    experiment: str = ""
    arm: str = ""  # "": of no experiment, or of both arms, item by item
    fallback: str | None = None
    skipped: tuple[str, ...] = ()  # stages that did not do their part, ``stage: reason``
    rules: tuple[str, ...] = ()  # business rules that changed the list, in the order in which they acted
    context: Mapping[str, Value] = field(default_factory=dict)  # as the client sent it
    took_ms: float = 0.0
    trace_id: str = ""  # ``x-request-id``: the client's, or made where it came in; may stand in several
    brought: int = 0  # items that the request named itself: a history, what it excluded
    named: str = ""  # JSON of them as a request has them; empty: none, or more than is kept
    feature_names: tuple[str, ...] = ()  # of the F columns
    features_KF: Float32s | None = None  # what the ranker went by; rows of NaN: not ranked; None: no ranker


class Fact(NamedTuple):
    """What is so until another one of its key is told."""

    key: str
    at: float  # unix seconds
    body: str


class Sent(NamedTuple):
    """Which of a sender's batches it is: whoever heard no answer sends it again, and it counts once."""

    sender: str
    number: int  # greater than of those before


class Telling(NamedTuple):
    """What one request tells."""

    events: Sequence[Event]
    facts: Sequence[Fact] = ()


class Recorded(NamedTuple):
    """What came of handing events to the log."""

    taken: int
    repeated: int  # events whose id was there
