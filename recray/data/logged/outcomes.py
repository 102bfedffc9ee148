"""What came of each item that was shown: outcomes joined to the answers that they claim, point in time."""

import polars as pl

from recray.event_log.claims import marked
from recray.event_log.reading import Log

GRADES = {"click": 1.0, "rating": 1.0, "cart": 2.0, "purchase": 3.0}
"""How much each kind of outcome says for an item; the highest counts."""


def known_until(log: Log, until: float) -> Log:
    """What was in the log at that moment, in unix seconds."""
    return Log(log.shown.filter(pl.col("at") < until), log.events.filter(pl.col("received") < until))


def outcomes(log: Log, attribution_s: float, until: float) -> pl.DataFrame:
    """The shown items, each once, with what was known of them at a moment:

    - ``label``: the highest of ``GRADES`` that was claimed of it in time, else 0. Who dismisses an item
      takes a click back;
    - ``closes``: when nothing more counts for its answer;
    - ``is_closed``: whether that was past: before it, an item without an outcome is not yet a negative;
    - ``known_at``: when the last outcome of its answer was, or the answer itself.

    Args:
        attribution_s: after an answer, within which outcomes count for it.
        until: unix seconds; nothing that came then or later is looked at.
    """
    known = known_until(log, until)
    claimed = marked(known, attribution_s).filter(pl.col("mark") == "claimed")
    did = claimed.group_by("request_id", "item_id").agg(
        grade=pl.col("kind").replace_strict(GRADES, default=0.0, return_dtype=pl.Float32).max(),
        dismissed=(pl.col("kind") == "dismissal").any(),
        last=pl.col("at").max(),
    )
    shown = known.shown.filter(pl.col("rank") > 0).unique(
        ["request_id", "item_id"], keep="first", maintain_order=True
    )
    takes_back = pl.col("dismissed").fill_null(value=False) & (pl.col("grade") <= GRADES["click"])
    return (
        shown.join(did, on=["request_id", "item_id"], how="left", maintain_order="left")
        .with_columns(
            label=pl.when(takes_back).then(0.0).otherwise(pl.col("grade").fill_null(0.0)).cast(pl.Float32),
            closes=pl.col("at") + attribution_s,
            is_closed=pl.col("at") + attribution_s <= until,
            known_at=pl.max_horizontal("at", pl.col("last").max().over("request_id")),
        )
        .drop("grade", "dismissed", "last")
    )
