"""How a retriever is asked, offline and by a replica: by vectors that an index searches, or by all scores.

The one place that knows who is unknown to a retriever, whose vector was computed ahead, and what stands in
for a user of whom nothing is known. A request is a batch of one.

Shapes: B queries, H events of a history, I items, D vector dim.
"""

import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recray.arrays import Bools, Float32s, Int64s
from recray.batch import Jagged, QueryBatch
from recray.bundles.retriever import RetrieverFiles
from recray.contract import Retriever, VectorRetriever, reads_history
from recray.features.candidates import SearchQuery, by_scores

Fallback = Literal["history", "popular"]
PREPARED_TOGETHER = 512  # queries that the retriever encodes or scores at a time


class PreparedQuery(NamedTuple):
    """A query in the retriever's terms, and what stood in for a user whom it does not know."""

    search: SearchQuery | None  # None: there is nothing to go by, popular items stand in
    fallback: Fallback | None


class Searcher:
    """A retriever, ready to be asked.

    Args:
        model: what ``load_model`` gives of the bundle that holds ``files``.
    """

    def __init__(self, files: RetrieverFiles, model: object) -> None:
        assert isinstance(model, Retriever)
        self._files, self._model = files, model
        self._encoder = model if files.index is not None and isinstance(model, VectorRetriever) else None
        self._reads_history = reads_history(model)
        # A vector of zeros says that nothing is known of the item: a search would find it by chance.
        self._is_known_I: Bools | None = None if files.item_ID is None else (files.item_ID != 0).any(axis=1)

    def known_ahead(self, user_id: int) -> PreparedQuery | None:
        """The query of one user whose vector was computed ahead, whatever it did; None for all others."""
        row = int(self._files.trained(user_id))
        if self._files.user_UD is None or row < 0:
            return None
        return PreparedQuery(self._by_vector(self._files.user_UD[row]), None)

    def prepare(self, queries: QueryBatch) -> Iterator[PreparedQuery]:
        """Each query in order; ``PREPARED_TOGETHER`` of them are encoded, or have scores, at a time."""
        num_queries = len(queries.user_ids_B)
        if num_queries <= PREPARED_TOGETHER:
            yield from self._prepared(queries)
            return
        for start in range(0, num_queries, PREPARED_TOGETHER):
            yield from self._prepared(queries.slice(start, min(start + PREPARED_TOGETHER, num_queries)))

    def _prepared(self, queries: QueryBatch) -> Iterator[PreparedQuery]:
        user_ids_B, user_UD = self._files.trained(queries.user_ids_B.numpy()), self._files.user_UD
        is_unknown_B = user_ids_B < 0
        if user_UD is not None and not is_unknown_B.any():
            return (PreparedQuery(self._by_vector(query_D), None) for query_D in user_UD[user_ids_B])
        needs_history_B = is_unknown_B | self._reads_history
        nothing_B = needs_history_B & (queries.history.lengths_B().numpy() == 0)
        if nothing_B.all():
            return (PreparedQuery(None, "popular") for _ in nothing_B)
        searches = self._searches(queries._replace(user_ids_B=torch.from_numpy(user_ids_B)))
        return itertools.starmap(self._found, zip(searches, nothing_B, is_unknown_B, strict=True))

    def _found(self, search: SearchQuery, has_nothing: bool, is_unknown: bool) -> PreparedQuery:
        by_history = is_unknown and not self._reads_history
        # A sum of nothing: each item of the history is one of which nothing is known.
        if has_nothing or (by_history and not search.query_D.any()):
            return PreparedQuery(None, "popular")
        return PreparedQuery(search, "history" if by_history else None)

    def _searches(self, queries: QueryBatch) -> list[SearchQuery]:
        if self._encoder is None:
            return list(map(by_scores, self._scores(queries).numpy()))
        with torch.inference_mode():
            query_BD: Float32s = self._encoder.query_vectors(queries).numpy()
        if self._files.user_UD is not None:
            user_ids_B = queries.user_ids_B.numpy()
            query_BD = np.where(user_ids_B[:, None] < 0, query_BD, self._files.user_UD[user_ids_B])
        return list(map(self._by_vector, query_BD))

    def _scores(self, queries: QueryBatch) -> Tensor:
        with torch.inference_mode():
            return self._model.score_items(queries)

    def _by_vector(self, query_D: Float32s) -> SearchQuery:
        index, item_ID, is_known_I = self._files.index, self._files.item_ID, self._is_known_I
        assert index is not None
        assert item_ID is not None
        assert is_known_I is not None

        def search(query_BD: Float32s, k: int) -> Int64s:
            item_ids_BK = index.search(query_BD, k).item_ids_BK
            return np.where(is_known_I[item_ids_BK], item_ids_BK, -1)

        return SearchQuery(search, query_D, item_ID)

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI of the retriever itself, without an index."""
        user_ids_B = self._files.trained(queries.user_ids_B.numpy())
        return self._scores(queries._replace(user_ids_B=torch.from_numpy(user_ids_B)))

    def like(self, item_id: int) -> SearchQuery | None:
        """Finds what resembles an item; without vectors, what is for someone who is known by it only.

        None where nothing is known of the item.
        """
        if self._files.item_ID is not None and self._is_known_I is not None:
            return self._by_vector(self._files.item_ID[item_id]) if self._is_known_I[item_id] else None
        stranger = single_query(-1, np.array([item_id]), np.zeros(1, np.int64), time=0)
        return self._searches(stranger)[0]


def single_query(user_id: int, item_ids_H: Int64s, times_H: Int64s, time: int) -> QueryBatch:
    """A batch of one.

    Args:
        user_id: -1 where it is unknown.
        item_ids_H: the history, oldest first.
        times_H, time: unix seconds.
    """
    # By way of NumPy: of a small tensor's microseconds torch.tensor takes twice as many.
    user_ids_B, offsets_B, times_B = np.array([user_id]), np.array([0, len(item_ids_H)]), np.array([time])
    history = Jagged(torch.from_numpy(item_ids_H), torch.from_numpy(offsets_B))
    return QueryBatch(
        torch.from_numpy(user_ids_B), history, torch.from_numpy(times_H), torch.from_numpy(times_B)
    )
