"""What is in the data and what is odd about it: numbers and checks, from counts over all rows.

Nothing is sampled: every figure is an aggregate, so 25 million rows take seconds. ``quality_page.py``
draws it.
"""

import datetime
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from recray.arrays import BLOCK_ROWS, Float32s, Int32s, Int64s, blocks
from recray.data.events.clean import InteractionArrays, Rows
from recray.data.source import ABSOLUTE_TIMES
from recray.pages.check import Check, check

FEW = 5  # interactions below which a user or item counts as cold
BUSY = 0.1  # share of all interactions above which a user is asked about
TRAIN_SHARE = 0.8  # of the default global-time split; who appears only later is cold there


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Interactions per user or per item, of those that have any."""

    count: int
    without: int  # further ones in the catalogue, which have none
    lowest: int
    median: float
    mean: float
    highest: int
    below_few: int  # how many have fewer than ``FEW``
    gini: float  # 0: all have the same number, towards 1: few have all
    top_percent_share: float  # of all interactions, held by the most active 1 %
    top_tenth_share: float
    cold_at_split: int  # how many appear only in the last fifth of the interactions
    quantiles: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The report, JSON-ready through ``to_json``."""

    name: str
    rows: Rows
    kept: int
    ratings: dict[str, Any]
    time: dict[str, Any]
    users: Activity
    items: Activity
    density: float  # share of user-item pairs that interact
    missing: dict[str, float]  # share of empty values of each side column
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()  # what the reader did to the values

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"rows": self.rows._asdict()}


def measure(
    name: str,
    rows: Rows,
    events: InteractionArrays,
    users: pl.DataFrame,
    items: pl.DataFrame,
    *,
    rating_range: tuple[float, float] | None,
    times: str,
    notes: tuple[str, ...] = (),
) -> Quality:
    """All figures of the report. Columns are read, never copied whole more than one at a time."""
    num_rows = len(events.user_ids_N)
    quality = Quality(
        name=name,
        rows=rows,
        kept=num_rows,
        ratings=_ratings(events.ratings_N, rating_range),
        time=_time(events, times),
        users=_activity(events.user_ids_N, len(users)),
        items=_activity(events.item_ids_N, len(items)),
        density=num_rows / (len(users) * len(items)),
        missing=_missing("user", users) | _missing("item", items),
        checks=(),
        notes=notes,
    )
    return Quality(**{**quality.__dict__, "checks": tuple(_checks(quality))})


def _ratings(ratings_N: Float32s, limits: tuple[float, float] | None) -> dict[str, Any]:
    values, counts = _distinct(ratings_N)
    outside = 0
    if limits is not None:
        outside = int(counts[(values < limits[0]) | (values > limits[1])].sum())
    return {
        "lowest": float(values[0]),
        "highest": float(values[-1]),
        "mean": float(np.average(values.astype(np.float64), weights=counts)),
        "distinct": len(values),
        "allowed": list(limits) if limits else None,
        "outside": outside,
        "histogram": _histogram(values, counts),
    }


def _distinct(values_N: Float32s) -> tuple[Float32s, Int64s]:
    """Distinct values in order, and how many there are of each; some rows at a time."""
    found = [np.unique(values_N[rows], return_counts=True) for rows in blocks(len(values_N))]
    values, places = np.unique(np.concatenate([values for values, _ in found]), return_inverse=True)
    return values, np.bincount(places, np.concatenate([counts for _, counts in found])).astype(np.int64)


def occurrences(ids_N: Int32s, size: int) -> Int64s:
    """How often each of the ids 0..size-1 occurs; some rows at a time."""
    counts = np.zeros(size, dtype=np.int64)
    for rows in blocks(len(ids_N)):
        counts += np.bincount(ids_N[rows], minlength=size)
    return counts


def _histogram(values: Float32s, counts: Int64s, most: int = 20) -> dict[str, int]:
    """Count per value, or per equal interval where there are many values."""
    if len(values) <= most:
        return {f"{value:g}": int(count) for value, count in zip(values, counts, strict=True)}
    heights, edges = np.histogram(values.astype(np.float64), bins=most, weights=counts)
    return {f"{edge:.3g}": int(height) for edge, height in zip(edges, heights, strict=False)}


def _time(events: InteractionArrays, times: str) -> dict[str, Any]:
    times_N = events.timestamps_N
    first, last = int(times_N[0]), int(times_N[-1])
    heights, edges = np.histogram(times_N, bins=60)
    is_absolute = times == ABSOLUTE_TIMES
    return {
        "meaning": times,
        "first": _iso(first) if is_absolute else first,
        "last": _iso(last) if is_absolute else last,
        "distinct": 1
        + sum(int((np.diff(times_N[rows.start : rows.stop + 1]) > 0).sum()) for rows in blocks(len(times_N))),
        "ties_within_users": _ties(events) / len(times_N),
        "histogram": {"starts": [int(e) for e in edges[:-1]], "counts": [int(h) for h in heights]},
    }


def _iso(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _ties(events: InteractionArrays) -> int:
    """Interactions at the same second as another one of the same user that precedes it; some rows at a time,
    but for those of one second."""
    times_N, ties, start = events.timestamps_N, 0, 0
    while start < len(times_N):
        last = times_N[min(start + BLOCK_ROWS, len(times_N)) - 1]
        stop = int(np.searchsorted(times_N, last, side="right"))
        moments = events.user_ids_N[start:stop].astype(np.int64) * (int(last - times_N[start]) + 1)
        moments += times_N[start:stop] - times_N[start]
        moments.sort()
        ties += int((moments[1:] == moments[:-1]).sum())
        start = stop
    return ties


def _activity(ids_N: Int32s, size: int) -> Activity:
    all_counts = occurrences(ids_N, size)
    early = occurrences(ids_N[: int(len(ids_N) * TRAIN_SHARE)], size)
    counts = np.sort(all_counts[all_counts > 0])
    quantiles = np.quantile(counts, [0.05, 0.25, 0.75, 0.95])
    return Activity(
        count=len(counts),
        without=size - len(counts),
        lowest=int(counts[0]),
        median=float(np.median(counts)),
        mean=float(counts.mean()),
        highest=int(counts[-1]),
        below_few=int((counts < FEW).sum()),
        gini=_gini(counts),
        top_percent_share=_top_share(counts, 0.01),
        top_tenth_share=_top_share(counts, 0.1),
        cold_at_split=int(((early == 0) & (all_counts > 0)).sum()),
        quantiles={f"p{p}": float(q) for p, q in zip((5, 25, 75, 95), quantiles, strict=True)},
    )


def _gini(ascending: Int64s) -> float:
    """Gini coefficient by the rank formula, Damgaard and Weiner, Ecology 81(4), 2000."""
    size = len(ascending)
    ranks = 2 * np.arange(1, size + 1) - size - 1
    return float((ranks * ascending).sum() / (size * ascending.sum()))


def _top_share(ascending: Int64s, share: float) -> float:
    top = max(1, round(len(ascending) * share))
    return float(ascending[-top:].sum() / ascending.sum())


def _missing(prefix: str, table: pl.DataFrame) -> dict[str, float]:
    return {f"{prefix}.{c.name}": c.null_count() / max(len(c), 1) for c in table if c.name != "raw_id"}


def _checks(quality: Quality) -> list[Check]:
    rows, ratings, time = quality.rows, quality.ratings, quality.time
    return [
        check(
            "Exact duplicates",
            f"rows that are copies of an earlier one and were dropped: {rows.exact_duplicates:,}",
            warning=rows.exact_duplicates > 0.01 * rows.read,
            note=rows.exact_duplicates > 0,
            fine="no row is a copy of another",
        ),
        check(
            "Repeated pairs",
            f"{rows.repeated_pairs:,} interactions repeat a user and item at another time or rating; "
            "they are kept",
            note=rows.repeated_pairs > 0,
            fine="each user meets each item at most once",
        ),
        check(
            "Rating range",
            f"{ratings['outside']:,} ratings lie outside {ratings['allowed']}",
            warning=ratings["outside"] > 0,
            fine=f"all ratings lie between {ratings['lowest']:g} and {ratings['highest']:g}",
        ),
        check(
            "Order of time",
            f"{rows.out_of_order:,} raw rows are earlier than the row before; the data set is sorted",
            note=rows.out_of_order > 0,
            fine="the raw file is in order of time",
        ),
        check(
            "Equal times",
            f"{time['ties_within_users']:.1%} of the interactions fall into the same second as the user's "
            "one before; they are in order of their full times, equal ones in the order of the raw file",
            warning=time["ties_within_users"] > 0.2,
            note=time["ties_within_users"] > 0,
            fine="no user has two interactions in the same second",
        ),
        check(
            "Busiest user",
            f"one user alone has {quality.users.highest:,} interactions, "
            f"{quality.users.highest / quality.kept:.0%} of all: a robot, or an account that many share? "
            "Leave it out where it is",
            warning=quality.users.highest > BUSY * quality.kept and quality.users.count > 1 / BUSY,
            fine=f"no user has more than {BUSY:.0%} of the interactions",
        ),
        *_cold_checks(quality),
    ]


def _cold_checks(quality: Quality) -> list[Check]:
    groups = (("users", quality.users), ("items", quality.items))
    few = [
        check(
            f"Cold {kind}",
            f"{kind} with fewer than {FEW} interactions: {activity.below_few:,} of {activity.count:,}; "
            "k_core drops them",
            warning=activity.below_few > 0.5 * activity.count,
            note=activity.below_few > 0,
            fine=f"all {kind} have at least {FEW} interactions",
        )
        for kind, activity in groups
    ]
    late = [
        check(
            f"New {kind}",
            f"{kind} that appear only in the last fifth of the interactions: {activity.cold_at_split:,} of "
            f"{activity.count:,}; under a global-time split nothing is known about them",
            warning=activity.cold_at_split > 0.5 * activity.count,
            note=activity.cold_at_split > 0,
            fine=f"all {kind} appear in the first four fifths of the interactions",
        )
        for kind, activity in groups
    ]
    unseen = check(
        "Items without interactions",
        f"{quality.items.without:,} further items of the catalogue have none; models know them by what their "
        "columns say",
        note=quality.items.without > 0,
        fine="all items of the catalogue have interactions",
    )
    return [*few, unseen, *late]
