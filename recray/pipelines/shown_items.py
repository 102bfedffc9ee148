"""What is known of shown items: which are new, which of the long tail, which are shown again."""

import numpy as np
import polars as pl

from recray.arrays import Bools, Int64s
from recray.bundles.retriever import COUNT_COLUMN
from recray.eval.ages import seconds
from recray.features.log import EventLog
from recray.serve.versions import OpenedVersion

DAY_S = 86_400.0
HEAD = 0.8
"""Share of the interactions that the most popular items have; all others are the long tail (Abdollahpouri,
Burke & Mobasher, Managing Popularity Bias in Recommender Systems with Personalized Re-ranking, FLAIRS
2019)."""
NODES_DIFFER_S = 3_600.0  # what two nodes wrote in an hour is read one after the other


def items_of(version: OpenedVersion) -> pl.DataFrame:
    """``item_id``, ``is_tail`` and ``first``, unix seconds of the first interaction; null: there was none."""
    raw_ids, log = version.catalogue[1]["raw_id"].cast(pl.String), version.event_log
    if isinstance(log, EventLog):
        counts_I = np.bincount(log.item_ids_N, minlength=len(raw_ids))
        first_I = np.full(len(raw_ids), np.inf)
        np.minimum.at(first_I, log.item_ids_N, log.timestamps_N)
    else:
        counts_I = _counts(version)
        first_I = np.where(counts_I > 0, -np.inf, np.inf)  # some time
    first = pl.Series(first_I).replace(np.inf, None)
    return pl.DataFrame({"item_id": raw_ids, "is_tail": long_tail(counts_I), "first": first})


def _counts(version: OpenedVersion) -> Int64s:
    if version.is_generative:
        return version.decoder_files.item_counts_I
    counts_I: Int64s = version.catalogue[1][COUNT_COLUMN].cast(pl.Int64).to_numpy()
    return counts_I


def long_tail(counts_I: Int64s) -> Bools:
    """Items behind the most popular ones that have ``HEAD`` of all interactions together."""
    order_I = np.argsort(-counts_I, kind="stable")
    before_I = np.cumsum(counts_I[order_I]) - counts_I[order_I]
    is_tail_I = np.empty(len(counts_I), bool)
    is_tail_I[order_I] = before_I >= HEAD * counts_I.sum()
    return is_tail_I


def with_items(rows: pl.DataFrame, items: pl.DataFrame, new_days: float) -> pl.DataFrame:
    """Adds ``is_tail`` and ``is_new``; an item that the version does not know is both."""
    known = rows.join(items, on="item_id", how="left", maintain_order="left")
    is_new = pl.col("at") - pl.col("first") < new_days * DAY_S
    return known.with_columns(
        is_tail=pl.col("is_tail").fill_null(value=True), is_new=is_new.fill_null(value=True)
    ).drop("first")


class Repeats:
    """Marks what a user is shown again, over one piece of a log after the other."""

    def __init__(self, within: str) -> None:
        """
        Args:
            within: as in 1d; what was shown longer ago is not shown again.
        """
        self._within_s = float(seconds(within))
        self._last = pl.DataFrame(schema={"pair": pl.UInt64, "last": pl.Float64})

    def marked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds ``is_repeated``; of nobody in particular nothing is."""
        pair = pl.struct("user_id", "item_id").hash()
        found = rows.with_columns(pair=pair).join(self._last, on="pair", how="left", maintain_order="left")
        before = pl.col("at").shift().over("pair", order_by="at")
        ago_s = pl.col("at") - pl.coalesce(before, "last")
        is_repeated = (ago_s.abs() <= self._within_s) & pl.col("user_id").is_not_null()
        found = found.with_columns(is_repeated=is_repeated.fill_null(value=False))
        newest = found.filter(pl.col("user_id").is_not_null()).group_by("pair").agg(last=pl.col("at").max())
        forget = newest["last"].max()
        both = pl.concat([self._last, newest]).group_by("pair").agg(pl.col("last").max())
        if forget is not None:
            both = both.filter(pl.col("last") >= float(forget) - self._within_s - NODES_DIFFER_S)  # type: ignore[arg-type]
        self._last = both
        return found.drop("pair", "last")
