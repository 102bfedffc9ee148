"""What a log is worth as data: counts, rates, and how they stand to what they were before."""

import hashlib
import json
import math
from dataclasses import dataclass, field

import polars as pl

from recray.config import to_dict
from recray.data.logged.interactions import with_why_not
from recray.event_log.claims import MARKS

SESSION_GAP_S = 1_800.0
RANKS = 20  # of which the rate is told
LEAST_A_DAY = 20  # lists with an outcome; fewer say nothing of a day


@dataclass(frozen=True, kw_only=True)
class LogReport:
    """Rates are of answers whose time for outcomes is past."""

    lists: int  # answers with items
    open_lists: int  # for which outcomes may still come
    shown: int  # items
    events: int
    sessions: int  # of users: half an hour without an event ends one
    marks: dict[str, int]  # events by their mark
    left_out: dict[str, int]  # users by the reason
    answered: float  # share of lists with an outcome
    clicked: float  # share of items with an outcome
    no_interaction: dict[str, int] = field(default_factory=dict)  # events by why no data set has them
    clicked_by_rank: list[float] = field(default_factory=list)  # from rank 1
    order: float = 0.5  # chance that an item with an outcome stands above one of its list without; 0.5: none
    order_error: float = 0.5  # its standard error
    order_by_day: dict[str, list[float]] = field(default_factory=dict)  # of days (UTC) that say enough
    agreement: float = 0.5  # chance that, of two items at one rank, one with an outcome has the higher score
    agreement_error: float = 0.5  # its standard error
    answered_lists: int = 0  # with an outcome, without those of users who are left out
    drawn: float = 0.0  # share of items with a propensity
    ranges: dict[str, list[int]] = field(default_factory=dict)  # first and last row, by "table node"

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()


def log_report(rows: pl.DataFrame, events: pl.DataFrame, left_out: pl.DataFrame) -> LogReport:
    """
    Args:
        rows: of ``outcomes``; events: of ``marked``; left_out: of ``screened``, whose rows are not counted
            in the rates.
    """
    counted = rows.filter(pl.col("is_closed")).join(left_out, on="user_id", how="anti")
    of_list = counted.group_by("request_id").agg((pl.col("label") > 0).any().alias("has"))
    order, error = _order(counted)
    agreement, agreement_error = _agreement(counted)
    return LogReport(
        lists=rows["request_id"].n_unique(),
        open_lists=rows.filter(~pl.col("is_closed"))["request_id"].n_unique(),
        shown=len(rows),
        events=len(events),
        sessions=num_sessions(events),
        marks={mark: int((events["mark"] == mark).sum()) for mark in MARKS},
        left_out=dict(left_out.group_by("why", maintain_order=True).len().iter_rows()),
        no_interaction=_no_interaction(events, left_out),
        answered=_rate(of_list["has"]),
        answered_lists=int(of_list["has"].sum()),
        clicked=_rate(counted["label"] > 0),
        clicked_by_rank=_by_rank(counted),
        order=order,
        order_error=error,
        order_by_day=_order_by_day(counted),
        agreement=agreement,
        agreement_error=agreement_error,
        drawn=_rate(counted["propensity"].is_not_null()),
        ranges=_ranges(rows, "shown") | _ranges(events, "events"),
    )


def _no_interaction(events: pl.DataFrame, left_out: pl.DataFrame) -> dict[str, int]:
    why_not = with_why_not(events, left_out)["why_not"].drop_nulls()
    return dict(why_not.value_counts(sort=True).iter_rows())


def num_sessions(events: pl.DataFrame, gap_s: float = SESSION_GAP_S) -> int:
    """A user's events belong together until nothing comes for so long."""
    ordered = events.drop_nulls("user_id").sort("user_id", "at")
    begins = pl.col("at").diff().over("user_id").fill_null(math.inf) > gap_s
    return int(ordered.select(begins.sum()).item() or 0)


def _rate(flags: pl.Series) -> float:
    return float(flags.mean() or 0.0)  # type: ignore[arg-type]


def _by_rank(rows: pl.DataFrame) -> list[float]:
    of_rank = rows.filter(pl.col("rank") <= RANKS).group_by("rank").agg((pl.col("label") > 0).mean())
    return [float(rate) for rate in of_rank.sort("rank")["label"]]


def _order(rows: pl.DataFrame) -> tuple[float, float]:
    """The mean over lists of the area under the ROC curve of the ranks, and its standard error."""
    area = _areas(rows)["area"]
    if len(area) < 2:
        return 0.5, 0.5
    return float(area.mean()), float(area.std()) / math.sqrt(len(area))  # type: ignore[arg-type]


def _agreement(rows: pl.DataFrame) -> tuple[float, float]:
    """Of items at one rank, by scores of one version: the share of pairs with and without an outcome in which
    the one with it has the higher score (Mann & Whitney 1947), over ranks; and its standard error where
    outcomes have nothing to do with scores."""
    hit = pl.col("label") > 0
    place = pl.col("score").rank("average").over("version", "rank")
    of_rank = (
        rows.filter(pl.col("score").is_not_null())
        .with_columns(place=place)
        .group_by("version", "rank")
        .agg(
            hits=hit.sum().cast(pl.Float64),
            misses=(~hit).sum().cast(pl.Float64),
            places=pl.col("place").filter(hit).sum(),
            scores=pl.col("score").n_unique(),
        )
        .filter((pl.col("hits") > 0) & (pl.col("misses") > 0) & (pl.col("scores") > 1))
    )
    hits, misses = pl.col("hits"), pl.col("misses")
    area = (pl.col("places") - hits * (hits + 1) / 2) / (hits * misses)
    weight = hits * misses / (hits + misses)
    total, sum_of = of_rank.select(weight.sum(), (weight * area).sum().alias("of")).row(0)
    return (sum_of / total, 1 / math.sqrt(12 * total)) if total else (0.5, 0.5)


def _order_by_day(rows: pl.DataFrame) -> dict[str, list[float]]:
    """Of days with ``LEAST_A_DAY`` lists; errors go by the spread of all lists: few say little of theirs."""
    areas = _areas(rows)
    spread = float(areas["area"].std() or 0.0)  # type: ignore[arg-type]
    day = pl.from_epoch(pl.col("at").cast(pl.Int64)).dt.date().cast(pl.String).alias("day")
    of_day = areas.group_by(day).agg(pl.col("area").mean(), pl.len()).filter(pl.col("len") >= LEAST_A_DAY)
    return {day: [area, spread / math.sqrt(lists)] for day, area, lists in of_day.sort("day").iter_rows()}


def _areas(rows: pl.DataFrame) -> pl.DataFrame:
    """``area`` under the ROC curve of the ranks, and when it was shown, of each list with an outcome."""
    has = pl.col("label") > 0
    place = pl.col("rank").rank("ordinal").over("request_id")
    of_list = (
        rows.with_columns(place=place)
        .group_by("request_id", maintain_order=True)
        .agg(
            pl.col("at").first(),
            hits=has.sum().cast(pl.Float64),
            all=pl.len(),
            places=pl.col("place").filter(has).sum(),
        )
        .filter((pl.col("hits") > 0) & (pl.col("hits") < pl.col("all")))
    )
    below = pl.col("places") - pl.col("hits") * (pl.col("hits") + 1) / 2  # misses above hits
    return of_list.select("at", area=1 - below / (pl.col("hits") * (pl.col("all") - pl.col("hits"))))


def _ranges(table: pl.DataFrame, name: str) -> dict[str, list[int]]:
    ends = table.group_by("node").agg(first=pl.col("seq").min(), last=pl.col("seq").max()).sort("node")
    return {f"{name} {node}": [first, last] for node, first, last in ends.iter_rows()}
