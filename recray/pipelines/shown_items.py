"""What is known of shown items: which are new, which of the long tail, which are shown again."""

import numpy as np
import polars as pl

from recray.arrays import Bools, Float64s, Int64s
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
    """Marks what a user is shown again, over one piece of a log after the other.

    What was shown last is kept by pairs of user and item, P of them, sorted by their hashes.
    """

    def __init__(self, within: str) -> None:
        """
        Args:
            within: as in 1d; what was shown longer ago is not shown again.
        """
        self._within_s = float(seconds(within))
        self._pair_P = np.empty(0, np.int64)
        self._last_P = np.empty(0)

    def marked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds ``is_repeated``; of nobody in particular nothing is."""
        pair_N = rows.select(pl.struct("user_id", "item_id").hash()).to_series().to_numpy().view(np.int64)
        at_N, known_M = rows["at"].to_numpy(), np.flatnonzero(rows["user_id"].is_not_null().to_numpy())
        order_M = known_M[np.lexsort((at_N[known_M], pair_N[known_M]))]
        pair_M, at_M = pair_N[order_M], at_N[order_M]
        is_first_M = np.ones(len(pair_M) + 1, bool)  # one more: where a next pair would begin
        is_first_M[1:-1] = pair_M[1:] != pair_M[:-1]
        is_last_M, is_first_M = is_first_M[1:], is_first_M[:-1]
        before_M = np.roll(at_M, 1)
        before_M[is_first_M] = self._last(pair_M[is_first_M])
        is_repeated_N = np.zeros(len(rows), bool)
        is_repeated_N[order_M] = np.abs(at_M - before_M) <= self._within_s
        self._note(pair_M[is_last_M], at_M[is_last_M])
        return rows.with_columns(is_repeated=pl.Series(is_repeated_N))

    def _last(self, pair_Q: Int64s) -> Float64s:
        """When each was shown before; -inf: it was not, or too long ago."""
        place_Q, is_there_Q = self._places(pair_Q)
        last_Q = np.full(len(pair_Q), -np.inf)
        last_Q[is_there_Q] = self._last_P[place_Q[is_there_Q]]
        return last_Q

    def _note(self, pair_Q: Int64s, at_Q: Float64s) -> None:
        """
        Args:
            pair_Q: ascending.
        """
        place_Q, is_there_Q = self._places(pair_Q)
        there = place_Q[is_there_Q]
        self._last_P[there] = np.maximum(self._last_P[there], at_Q[is_there_Q])
        is_new_Q = ~is_there_Q
        self._pair_P = np.insert(self._pair_P, place_Q[is_new_Q], pair_Q[is_new_Q])
        self._last_P = np.insert(self._last_P, place_Q[is_new_Q], at_Q[is_new_Q])
        if len(at_Q):
            kept_P = self._last_P >= at_Q.max() - self._within_s - NODES_DIFFER_S
            self._pair_P, self._last_P = self._pair_P[kept_P], self._last_P[kept_P]

    def _places(self, pair_Q: Int64s) -> tuple[Int64s, Bools]:
        """Where each is, or would be; and whether it is there."""
        place_Q = np.searchsorted(self._pair_P, pair_Q)
        is_there_Q = np.zeros(len(pair_Q), bool)
        within_Q = place_Q < len(self._pair_P)
        is_there_Q[within_Q] = self._pair_P[place_Q[within_Q]] == pair_Q[within_Q]
        return place_Q, is_there_Q
