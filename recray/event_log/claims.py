"""Which events belong to an answer that was given: those of its request id, for an item that it showed.

A function of the log alone: whatever came first over the network, the marks are the same. Nothing is dropped.
"""

from typing import Literal, TypeAlias, get_args

import polars as pl

from recray.event_log.reading import Log

Mark: TypeAlias = Literal["free", "claimed", "forged", "late", "replayed"]
MARKS: tuple[Mark, ...] = get_args(Mark)
CLOCKS_MAY_DIFFER_S = 60.0


def marked(log: Log, attribution_s: float) -> pl.DataFrame:
    """The events, each with a ``mark``, and ``shown_at`` and ``rank`` of what it claims:

    - ``free``: it claims no answer;
    - ``claimed``: it follows an answer, within the time;
    - ``forged``: no such answer, or it showed another user, or not that item;
    - ``late``: more than ``attribution_s`` after the answer, or before it by more than clocks differ;
    - ``replayed``: the same was claimed of that item before.
    """
    said = log.events["request_id"].drop_nulls().unique()
    claimed_of = log.shown.filter(pl.col("request_id").is_in(said.implode()))  # a few of all answers
    first = claimed_of.group_by("request_id", "item_id", maintain_order=True).first()
    shown = first.select("request_id", "item_id", "rank", pl.col("at").alias("shown_at"), shown_to="user_id")
    events = log.events.join(shown, on=["request_id", "item_id"], how="left", maintain_order="left")
    after_s = pl.col("at") - pl.col("shown_at")
    another = (pl.col("user_id") != pl.col("shown_to")).fill_null(value=False)  # who logs in is nobody else
    mark = (
        pl.when(pl.col("request_id").is_null())
        .then(pl.lit("free"))
        .when(pl.col("shown_at").is_null() | another)
        .then(pl.lit("forged"))
        .when((after_s > attribution_s) | (after_s < -CLOCKS_MAY_DIFFER_S))
        .then(pl.lit("late"))
        .otherwise(pl.lit("claimed"))
    )
    events = events.with_columns(mark=mark).drop("shown_to")
    # Of one item each kind counts once: the one that came first.
    is_first = pl.int_range(pl.len()).over("request_id", "item_id", "kind", order_by=["received", "seq"]) == 0
    claimed = events.filter(pl.col("mark") == "claimed").with_columns(is_first=is_first)
    replayed = claimed.filter(~pl.col("is_first")).select("node", "seq", _again=pl.lit(value=True))
    return (
        events.join(replayed, on=["node", "seq"], how="left", maintain_order="left")
        .with_columns(mark=pl.when("_again").then(pl.lit("replayed")).otherwise("mark"))
        .drop("_again")
    )
