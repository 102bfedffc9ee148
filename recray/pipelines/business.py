"""What an application's lists earned: rates, revenue, and what of the catalogue they showed.

Outcomes count as ``event_log.claims`` joins them. Users are the unit of all intervals: lists of one user are
alike.
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from recray.config import to_dict
from recray.eval.bootstrap import Interval

FEW_USERS = 30
"""Of fewer the interval of a mean says little, whatever its width."""


class Metric(NamedTuple):
    """A sum over a sum."""

    name: str
    of: str  # the sum above: a column of ``Sums``
    per: str  # the sum below
    text: str


METRICS = (
    Metric("click_rate", "clicked_lists", "lists", "lists with a click"),
    Metric("purchase_rate", "purchased_lists", "lists", "lists with a purchase"),
    Metric("item_click_rate", "clicked", "items", "shown items that were clicked"),
    Metric("item_purchase_rate", "purchased", "items", "shown items that were purchased"),
    Metric("revenue_per_list", "revenue", "lists", "purchase values for each list"),
    Metric("new_share", "new", "items", "shown items that were new"),
    Metric("tail_share", "tail", "items", "shown items of the long tail"),
    Metric("repeat_share", "repeated", "items", "shown items that the user was shown before"),
)
"""In the order in which they are told. Shares, but ``revenue_per_list``: in the money of the events."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the lists, and what came of them."""

    name: str  # an arm, a version, a day (UTC, ISO 8601) or ``all``
    lists: int  # with items
    items: int  # shown, each as often as it was
    users: int  # known ones
    anonymous_lists: int  # of nobody in particular: each is a user of its own
    metrics: dict[
        str, Interval
    ]  # by the names of METRICS, with 95 % intervals; NaN: of nothing, or not known
    revenue: float  # in all; NaN: no purchase says a price
    coverage: float  # share of the catalogue that stood in a list; it grows with the lists
    different_items: int  # that stood in a list
    few: str = ""  # why the numbers say little, in words; empty: they do not


@dataclass(frozen=True, kw_only=True)
class BusinessReport:
    """Of the lists whose time for outcomes is past, without those of users who are programs."""

    application: str
    since: float | None  # unix seconds; None: since the log begins
    until: float
    attribution: str  # after a list, within which an outcome counts for it
    catalogue: int  # items of the version that is in production
    empty_lists: int  # answers without an item: they count nowhere else
    open_lists: int  # for which outcomes may still come: they count nowhere else
    left_out: dict[str, int]  # users by the reason
    whole: Part
    arms: tuple[Part, ...]  # by ``EXPERIMENT ARM``; lists of no experiment and lists of both arms, too
    versions: tuple[Part, ...]  # by ``NAME@NUMBER``
    days: tuple[Part, ...]  # oldest first; empty: not asked for

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; an interval is ``[mean, low, high]``, what is not known null."""
        told: dict[str, Any] = json.loads(json.dumps(to_dict(self)), parse_constant=lambda _: None)
        return told
