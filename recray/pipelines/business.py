"""What an application's lists earned: rates, revenue, and what of the catalogue they showed.

Outcomes count as ``event_log.claims`` joins them. Users are the unit of all intervals: lists of one user are
alike.
"""

import json
import math
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from recray import paths
from recray.arrays import Float64s
from recray.config import to_dict
from recray.eval.ages import seconds
from recray.eval.bootstrap import Interval, bootstrap_means
from recray.event_log.pieces import pieces
from recray.pipelines.feedback import HANDED_OVER_S, FeedbackConfig
from recray.pipelines.logged_pieces import LoggedPieces
from recray.pipelines.shown_items import Repeats, items_of, with_items
from recray.pipelines.sums_by_user import ALL, SUMS, Kind, SumsByUser
from recray.schema import DataError
from recray.serve.versions import OpenedVersion, open_served
from recray.store import Store

FEW_USERS = 30
"""Of fewer the interval of a mean says little, whatever its width."""
FEW_CLICKS = 10  # lists
MOST_UNITS = (
    2**14
)  # drawn by the bootstrap; more users are put together by chance, which leaves intervals as wide
_WANTED = frozenset({"version", "experiment", "arm", "team"})


class Metric(NamedTuple):
    """A sum over a sum."""

    name: str
    of: str  # the sum above: one of ``SUMS``
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
    Metric("repeat_share", "repeated", "known_items", "items shown to known users, and again within a day"),
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


@dataclass(frozen=True, kw_only=True)
class BusinessConfig:
    """What counts."""

    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    """Which outcomes count for a list, and who is a program."""
    new_days: float = 30.0
    """An item is new for so long after the first interaction that production has learnt."""
    repeat: str = "1d"
    """An item is shown again where its user was shown it within that time before."""


def business(
    store: Store,
    application: str,
    config: BusinessConfig,
    *,
    hours: float | None = None,
    by_day: bool = False,
    until: float | None = None,
) -> BusinessReport:
    """
    Args:
        hours: lists of the last so many; None: all of the log.
        until: unix seconds, nothing that came then or later counts; None: a moment ago.
    Raises:
        DataError: there is no log, or no list in that time whose time for outcomes is past.
        StoreError: nothing is in production.
    """
    until = time.time() - HANDED_OVER_S if until is None else until
    since = -math.inf if hours is None else until - hours * 3_600
    is_meant = pl.col("at") >= since
    folder = paths.events_dir() / application
    logged = LoggedPieces(folder, config.feedback, until)
    programs, items = logged.programs(), items_of(OpenedVersion(open_served(store, application)))
    repeats, open_lists, all_lists = Repeats(config.repeat), 0, 0
    sums = SumsByUser(("arm", "version", "day") if by_day else ("arm", "version"))
    for piece in logged.rows(_WANTED.__contains__, since - seconds(config.repeat)):
        all_lists += piece.filter(is_meant)["request_id"].n_unique()
        rows = repeats.marked(piece.join(programs, on="user_id", how="anti", maintain_order="left"))
        rows = rows.filter(is_meant)
        open_lists += rows.filter(~pl.col("is_closed"))["request_id"].n_unique()
        sums.add(with_items(rows.filter("is_closed"), items, config.new_days))
    if not sums.names(ALL):
        raise DataError(f"{application}: {_why_nothing(all_lists, open_lists, config.feedback.attribution)}")
    empty = (
        piece.filter(pl.col("rank") == 0).join(programs, on="user_id", how="anti")
        for piece in pieces(folder, {"rank", "user_id"}.__contains__, since, until)
    )
    priced = _says_prices(logged)
    kinds: tuple[Kind, ...] = (ALL, "arm", "version", "day")
    parts = {
        kind: tuple(_part(sums, kind, name, items, priced) for name in sums.names(kind)) for kind in kinds
    }
    return BusinessReport(
        application=application,
        since=None if hours is None else since,
        until=until,
        attribution=config.feedback.attribution,
        catalogue=len(items),
        empty_lists=sum(map(len, empty)),
        open_lists=open_lists,
        left_out=dict(programs.group_by("why", maintain_order=True).len().iter_rows()),
        whole=parts[ALL][0],
        arms=parts["arm"],
        versions=parts["version"],
        days=parts["day"],
    )


def _why_nothing(lists: int, open_lists: int, attribution: str) -> str:
    if not lists:
        return "no list was shown in that time"
    if open_lists:
        return (
            f"{open_lists:,} lists, all younger than {attribution}, within which outcomes count: "
            "wait, or say less (--feedback.attribution 5min)"
        )
    return (
        f"all {lists:,} lists are of users who ask as programs do; "
        "--feedback.screening.requests-per-minute 0 counts them too"
    )


def _says_prices(logged: LoggedPieces) -> bool:
    """Whether purchases say what was paid: of who says nothing the value is 1. Of no purchase nothing was."""
    purchases = logged.marked.filter((pl.col("kind") == "purchase") & (pl.col("mark") == "claimed"))
    return purchases.is_empty() or bool((purchases["value"] != 1.0).any())


def _part(sums: SumsByUser, kind: Kind, name: str, items: pl.DataFrame, priced: bool) -> Part:
    of_users = sums.of(kind, name)
    if not priced:
        of_users = of_users.with_columns(revenue=pl.lit(math.nan))
    total = {column: of_users[column].sum() for column in SUMS}
    anonymous = of_users.filter(~pl.col("is_known"))["lists"].sum()
    users, different = int(of_users["is_known"].sum()), sums.items(kind, name)
    return Part(
        name=name,
        lists=int(total["lists"]),
        items=int(total["items"]),
        users=users,
        anonymous_lists=int(anonymous),
        metrics=_metrics(of_users),
        revenue=float(total["revenue"]),
        coverage=len(items.join(different.to_frame(), on="item_id", how="semi")) / max(len(items), 1),
        different_items=len(different),
        few=_few(users + int(anonymous), int(total["clicked_lists"])),
    )


def _metrics(of_users: pl.DataFrame) -> dict[str, Interval]:
    """Ratios of sums over users, who are drawn with replacement."""
    if len(of_users) > MOST_UNITS:
        of_users = of_users.group_by(pl.col("unit") % MOST_UNITS).agg(pl.col(*SUMS).sum()).sort("unit")
    values_UM = of_users.select(*SUMS).cast(pl.Float64).to_numpy()
    total_M, means_RM = values_UM.sum(axis=0), bootstrap_means(values_UM)
    place = {name: m for m, name in enumerate(SUMS)}
    found = {}
    for metric in METRICS:
        of, per = place[metric.of], place[metric.per]
        if not total_M[per]:
            found[metric.name] = Interval(math.nan, math.nan, math.nan)
            continue
        drawn_R = _ratio(means_RM[:, of], means_RM[:, per])
        low, high = np.nanquantile(drawn_R, [0.025, 0.975]) if np.isfinite(drawn_R).any() else (math.nan,) * 2
        found[metric.name] = Interval(float(total_M[of] / total_M[per]), float(low), float(high))
    return found


def _ratio(of_R: Float64s, per_R: Float64s) -> Float64s:
    """NaN where nobody was drawn of whom there is something below."""
    ratio_R: Float64s = np.divide(of_R, per_R, out=np.full(len(of_R), np.nan), where=per_R > 0)
    return ratio_R


def _few(units: int, clicked_lists: int) -> str:
    if units < FEW_USERS:
        return f"{units} users: of fewer than {FEW_USERS} intervals say little"
    if clicked_lists < FEW_CLICKS:
        return f"{clicked_lists} lists with a click: of fewer than {FEW_CLICKS} a rate says little"
    return ""
