"""Which events of a log are interactions of a data set, and why the others are none."""

import polars as pl

from recray.event_log.records import WANTED

USER, ITEM, VALUE, AT, TYPE = "user_id", "item_id", "rating", "timestamp", "event_type"


def with_why_not(events: pl.DataFrame, left_out: pl.DataFrame) -> pl.DataFrame:
    """Adds ``why_not``: why an event is no interaction of a data set; null: it is one.

    Whoever clicks late has clicked all the same: it is no outcome of the answer, but it was done. What claims
    an answer that was never given, or the same again, may be anybody's.

    Args:
        events: of ``marked``; left_out: of ``screened``.
    """
    programs = left_out["user_id"].implode()
    why_not = (
        pl.when(~pl.col("kind").is_in(sorted(WANTED)))
        .then(pl.format("{} is no interaction", "kind"))
        .when(pl.col("mark").is_in(["forged", "replayed"]))
        .then("mark")
        .when(pl.col("user_id").is_null())
        .then(pl.lit("of nobody in particular"))
        .when(pl.col("user_id").is_in(programs))
        .then(pl.lit("of a program"))
    )
    return events.with_columns(why_not=why_not)


def interactions(events: pl.DataFrame, left_out: pl.DataFrame) -> pl.DataFrame:
    """What users did that can be trusted, as rows of a data set.

    Args:
        events: of ``marked``; left_out: of ``screened``.
    """
    kept = with_why_not(events, left_out).filter(pl.col("why_not").is_null())
    return kept.sort("at", "node", "seq").select(
        USER,
        ITEM,
        # A price is no rating.
        pl.when(kind="rating").then("value").otherwise(1.0).cast(pl.Float32).alias(VALUE),
        # A clock that runs ahead says what is still to come: nothing happened later than it was heard of.
        pl.min_horizontal("at", "received").floor().cast(pl.Int64).alias(AT),
        pl.col("kind").alias(TYPE),
    )
