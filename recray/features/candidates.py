"""The candidates of one query: sources merged, seen items out. Training and serving call the same code.

Shapes: B queries (1 here), K candidates, D embedding dim, I items.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recray.arrays import Bools, Float32s, Int64s, UInt8s
from recray.config import ConfigError

Search = Callable[[Float32s, int], Int64s]
"""(query_BD, k) -> item ids [B, k], best first, -1 where nothing was found."""

SOURCES = ("retriever", "popular", "generative", "cold")  # bit i of a source mask is SOURCES[i]
RETRIEVER, POPULAR, GENERATIVE, COLD = 1, 2, 4, 8


@dataclass(frozen=True, kw_only=True)
class CandidateConfig:
    """How many unseen items each source proposes."""

    retrieved: int = 200
    """From the index, nearest to the query first."""
    popular: int = 50
    """Most popular first."""

    def __post_init__(self) -> None:
        if self.retrieved < 0 or self.popular < 0 or not self.retrieved + self.popular:
            raise ConfigError(
                f"candidates: retrieved and popular must not be negative, and not both 0, "
                f"got {self.retrieved} and {self.popular}"
            )


class Candidates(NamedTuple):
    """Distinct items, best retrieval score first, ties by item id; without scores most popular first."""

    item_ids_K: Int64s
    scores_K: Float32s  # the retriever's score of every candidate, whichever source named it; or NaN
    sources_K: UInt8s  # bit mask over SOURCES

    def first(self, count: int) -> "Candidates":
        """The best so many."""
        item_ids_K, scores_K, sources_K = self
        return Candidates(item_ids_K[:count], scores_K[:count], sources_K[:count])

    def then(self, more: "Candidates") -> "Candidates":
        """Others behind them."""
        return Candidates(
            np.concatenate([self.item_ids_K, more.item_ids_K]),
            np.concatenate([self.scores_K, more.scores_K]),
            np.concatenate([self.sources_K, more.sources_K]),
        )


class SearchQuery(NamedTuple):
    """One query, ready to be compared with all items: scores are ``item_ID @ query_D``."""

    search: Search  # over item_ID
    query_D: Float32s
    item_ID: Float32s


def by_scores(scores_I: Float32s) -> SearchQuery:
    """A query that a retriever without vectors has scored: an item's one coordinate is its score."""

    def search(query_BD: Float32s, k: int) -> Int64s:
        best_K = np.sort(np.argpartition(-scores_I, k - 1)[:k])
        best_BK: Int64s = best_K[np.argsort(-scores_I[best_K], kind="stable")][None]
        return best_BK

    return SearchQuery(search, np.ones(1, np.float32), scores_I[:, None])


def popular_first(item_counts_I: Int64s) -> Int64s:
    """All item ids, most counted first, ties by id."""
    return np.argsort(-item_counts_I, kind="stable")


def popular_only(popular_first_I: Int64s, seen_ids: Int64s, count: int) -> Candidates:
    """The ``count`` most popular unseen items, for a query of which nothing is known: scores are NaN."""
    popular_ids = _popular(popular_first_I, _unseen(len(popular_first_I), seen_ids), seen_ids, count)
    unscored_K = np.full(len(popular_ids), np.nan, np.float32)
    return Candidates(popular_ids, unscored_K, np.full(len(popular_ids), POPULAR, np.uint8))


def gather(
    query: SearchQuery | None,
    popular_first_I: Int64s,
    seen_ids: Int64s,
    config: CandidateConfig,
    also: Candidates | None = None,
) -> Candidates:
    """The unseen candidates of one query.

    Args:
        query: searched for as many more items as were seen, so that filtering never leaves a source
            short. Float32s are exact inner products, so that a candidate scores the same whichever source
            and whichever index found it. None where nothing is known of the user: then only popular
            items are proposed, most popular first, and their score is NaN.
        seen_ids: items that must not come back.
        also: what one more source proposes: its items and their source bits. Its scores are not used.
    """
    if query is None:
        return popular_only(popular_first_I, seen_ids, config.popular)
    num_items = len(query.item_ID)
    unseen_I = _unseen(num_items, seen_ids)
    popular_ids = _popular(popular_first_I, unseen_I, seen_ids, config.popular)
    retrieved_ids = np.empty(0, np.int64)
    if config.retrieved:
        depth = min(config.retrieved + len(seen_ids), num_items)
        found_K = query.search(query.query_D[None], depth)[0]
        found_K = found_K[found_K >= 0]
        retrieved_ids = found_K[unseen_I[found_K]][: config.retrieved]
    sources_I = np.zeros(num_items, np.uint8)
    sources_I[retrieved_ids] |= RETRIEVER
    sources_I[popular_ids] |= POPULAR
    if also is not None:
        sources_I[also.item_ids_K] |= also.sources_K * unseen_I[also.item_ids_K]
    return _scored(sources_I, query.query_D, query.item_ID)


def _unseen(num_items: int, seen_ids: Int64s) -> Bools:
    unseen_I = np.ones(num_items, bool)
    unseen_I[seen_ids] = False
    return unseen_I


def _popular(popular_first_I: Int64s, unseen_I: Bools, seen_ids: Int64s, count: int) -> Int64s:
    depth = min(count + len(seen_ids), len(unseen_I))
    return popular_first_I[:depth][unseen_I[popular_first_I[:depth]]][:count]


def _scored(sources_I: UInt8s, query_D: Float32s, item_ID: Float32s) -> Candidates:
    """The items that some source named."""
    item_ids_K = np.flatnonzero(sources_I != 0)  # of booleans it is seven times faster
    scores_K = item_ID[item_ids_K] @ query_D
    order_K = np.argsort(-scores_K, kind="stable")
    item_ids_K = item_ids_K[order_K]
    return Candidates(item_ids_K, scores_K[order_K], sources_I[item_ids_K])
