"""How a retriever is asked: by vectors that an index searches, or by scoring every item.

Shapes: U users, I items, D vector dim, H events of a history.
"""

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from recray.arrays import Int64s
from recray.batch import Jagged, QueryBatch
from recray.bundles.retriever import RetrieverFiles
from recray.contract import Retriever, VectorRetriever, reads_history
from recray.features.candidates import Searchable, by_scores
from recray.features.log import EventLog
from recray.serve.catalogue import UNKNOWN_USER, Query

Fallback = Literal["history", "popular"]


class History(NamedTuple):
    """What a user did before a request, oldest first."""

    item_ids_H: Int64s
    times_H: Int64s  # unix seconds


class Searcher(Protocol):
    """A retriever, ready to be asked."""

    def ask(self, query: Query) -> tuple[Searchable | None, Fallback | None]:
        """What to search, None where there is nothing to go by; and what stood in for the user."""

    def like(self, item_id: int) -> Searchable:
        """Finds what resembles an item."""


class VectorSearcher:
    """A query vector over an index: a row of ``user_UD``, or what the model makes of the history."""

    def __init__(self, files: RetrieverFiles, model: VectorRetriever, log: EventLog | None) -> None:
        assert files.item_ID is not None
        assert files.index is not None
        self._item_ID, self._index, self._user_UD = files.item_ID, files.index, files.user_UD
        self._files, self._model, self._log = files, model, log

    def ask(self, query: Query) -> tuple[Searchable | None, Fallback | None]:
        user_id = int(self._files.trained(query.user_id))
        if user_id != UNKNOWN_USER and self._user_UD is not None:
            return self._by_vector(self._user_UD[user_id]), None
        batch, fallback = _batch(query, user_id, self._model, self._log)
        if batch is None:
            return None, fallback
        return self._by_vector(self._model.query_vectors(batch)[0].numpy()), fallback

    def like(self, item_id: int) -> Searchable:
        return self._by_vector(self._item_ID[item_id])

    def _by_vector(self, query_D: Any) -> Searchable:
        return Searchable(
            lambda query_BD, k: self._index.search(query_BD, k).item_ids_BK, query_D, self._item_ID
        )


class ScoreSearcher:
    """A model without vectors: it scores the catalogue for each query."""

    def __init__(self, files: RetrieverFiles, model: Retriever, log: EventLog | None) -> None:
        self._files, self._model, self._log = files, model, log

    def ask(self, query: Query) -> tuple[Searchable | None, Fallback | None]:
        user_id = int(self._files.trained(query.user_id))
        batch, fallback = _batch(query, user_id, self._model, self._log)
        return None if batch is None else self._by_scores(batch), fallback

    def like(self, item_id: int) -> Searchable:
        """What the model has for someone of whom it knows this item only."""
        history = History(np.array([item_id]), np.zeros(1, np.int64))
        return self._by_scores(_one_query(UNKNOWN_USER, history, 0))

    def _by_scores(self, batch: QueryBatch) -> Searchable:
        with torch.inference_mode():
            return by_scores(self._model.score_items(batch)[0].numpy())


def new_searcher(files: RetrieverFiles, model: Any, log: EventLog | None) -> Searcher:
    """The way to ask a retriever of this kind.

    Args:
        log: what known users did, for models that read it and users that were not trained on.
    """
    if isinstance(model, VectorRetriever):
        return VectorSearcher(files, model, log)
    return ScoreSearcher(files, model, log)


def history_of(query: Query, log: EventLog | None) -> History:
    """The client's history, else the log's of a known user; oldest first.

    What a client sends without times counts as just before the request.
    """
    if query.history_ids is not None:
        times_H = query.history_times
        if times_H is None:
            times_H = np.full(len(query.history_ids), query.time)
        return History(query.history_ids, times_H)
    if log is None or not 0 <= query.user_id < log.num_users:
        return History(np.empty(0, np.int64), np.empty(0, np.int64))
    events = log.events_before(query.user_id, query.time)
    return History(events.item_ids_H.astype(np.int64), events.times_H)


def _batch(
    query: Query, user_id: int, model: Any, log: EventLog | None
) -> tuple[QueryBatch | None, Fallback | None]:
    """The query of one, None where the model has nothing to go by; and what stood in for the user.

    Args:
        user_id: the query's, ``UNKNOWN_USER`` where the model has learnt nothing of that user.
    """
    history = history_of(query, log)
    is_known = user_id != UNKNOWN_USER and not reads_history(model)
    if not is_known and not len(history.item_ids_H):
        return None, "popular"
    fallback: Fallback | None = None if is_known or reads_history(model) else "history"
    return _one_query(user_id, history, query.time), fallback


def _one_query(user_id: int, history: History, time: int) -> QueryBatch:
    items = Jagged(torch.from_numpy(history.item_ids_H), torch.tensor([0, len(history.item_ids_H)]))
    times_H = torch.from_numpy(history.times_H)
    return QueryBatch(torch.tensor([user_id]), items, times_H, torch.tensor([time]))
