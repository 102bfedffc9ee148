"""The stages of a recommendation: retrieve, filter, features, rank. Plain Python objects.

They know neither HTTP nor Ray nor raw ids; ``pipeline`` joins them and ``deployments`` places them.

Shapes: U users, I items, D vector dim, K candidates, F features.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from recray.batch import Jagged, QueryBatch
from recray.contract import Scorer, VectorRetriever
from recray.features.candidates import CandidateConfig, Candidates, gather, popular_first
from recray.features.log import EventLog
from recray.features.ranking import RankingQuery, compute
from recray.serve.catalogue import UNKNOWN_USER, Query
from recray.serve.clock import StageClock
from recray.store.contents import RetrieverFiles

Vector = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Fallback = Literal["history", "popular"]


@dataclass(frozen=True)
class Retrieved:
    """Unseen candidates of one query, and how they were found."""

    candidates: Candidates
    fallback: Fallback | None  # None: by the user's own vector


class RetrievalStage(Protocol):
    """Finds unseen candidates: by vectors (``Retrieval``) or by generation (``generative``)."""

    def retrieve(self, query: Query, clock: StageClock) -> Retrieved:
        """At least ``query.k`` candidates, unless fewer items of the catalogue are unseen."""

    def similar(self, item_id: int, k: int) -> Candidates:
        """The k items most like one item, without itself."""


class Source(Protocol):
    """One more proposer of candidates."""

    def propose(self, query: Query, seen_ids: Ids) -> Candidates:
        """Unseen items of the retriever's catalogue with their source bits; may be none."""


def history_of(query: Query, log: EventLog | None) -> Ids:
    """The client's history, else (none, or an empty one) the log's of a known user; oldest first."""
    if query.history_ids is not None and len(query.history_ids):
        return query.history_ids
    if log is None or not 0 <= query.user_id < log.num_users:
        return np.empty(0, np.int64)
    return log.seen_before(query.user_id, query.time).astype(np.int64)


def seen_by(query: Query, log: EventLog | None) -> Ids:
    """Items that must not come back: excluded, in the history, or in the log of the user."""
    seen: list[npt.NDArray[np.integer[Any]]] = [query.exclude_ids]
    if query.history_ids is not None:
        seen.append(query.history_ids)
    if log is not None and query.user_id < log.num_users:
        seen.append(log.seen_before(query.user_id, query.time))
    return np.concatenate(seen, dtype=np.int64)


class QueryEncoder:
    """Query -> query vector: a row of ``user_UD`` for known users, else what the model makes of it."""

    def __init__(self, model: VectorRetriever, user_UD: Vector | None, log: EventLog | None) -> None:
        self._model, self._user_UD, self._log = model, user_UD, log

    def vector(self, query: Query) -> tuple[Vector | None, Fallback | None]:
        """(query_D, fallback); no vector where there is nothing to go by."""
        if query.user_id != UNKNOWN_USER:
            if self._user_UD is not None:
                return self._user_UD[query.user_id], None
            return self._encode(query, history_of(query, self._log)), None
        if query.history_ids is not None and len(query.history_ids):
            return self._encode(query, query.history_ids), "history"
        return None, "popular"

    def _encode(self, query: Query, history_ids: Ids) -> Vector:
        request_time = torch.tensor([query.time])
        history = Jagged(torch.from_numpy(history_ids), torch.tensor([0, len(history_ids)]))
        # Clients send no times with a history, so its events count as just before the request.
        times_N = request_time.expand(len(history_ids))
        batch = QueryBatch(torch.tensor([query.user_id]), history, times_N, request_time)
        query_D: Vector = self._model.query_vectors(batch)[0].numpy()
        return query_D


class Retrieval:
    """Retrieve and filter: the index's nearest and the most popular items, without those seen.

    Args:
        also: one more source, whose items are scored by the retriever's vectors like all others.
    """

    def __init__(
        self,
        files: RetrieverFiles,
        model: VectorRetriever,
        log: EventLog | None,
        config: CandidateConfig,
        also: Source | None = None,
    ) -> None:
        self._index, self._item_ID, self._log, self._config = files.index, files.item_ID, log, config
        self._encoder = QueryEncoder(model, files.user_UD, log)
        self._popular_first_I = popular_first(files.item_counts_I)
        self._also = also

    def retrieve(self, query: Query, clock: StageClock) -> Retrieved:
        """At least ``query.k`` candidates, unless fewer items of the catalogue are unseen.

        Books ``retrieve`` (query vector and index), ``filter`` and ``generate`` (one more source).
        """
        seen_ids = seen_by(query, self._log)
        clock.lap("filter")
        query_D, fallback = self._encoder.vector(query)
        clock.lap("retrieve")
        also = None
        if self._also is not None and query_D is not None:
            also = self._also.propose(query, seen_ids)
            clock.lap("generate")
        config = self._config
        if query.k > config.retrieved:
            config = replace(config, retrieved=query.k)
        candidates = self._gather(query_D, seen_ids, config, clock, also)
        if len(candidates.item_ids_K) < query.k:
            # Popularity alone, or an approximate index that does not reach so many items.
            config = replace(config, popular=query.k)
            candidates = self._gather(query_D, seen_ids, config, clock, also)
        return Retrieved(candidates, fallback)

    def _gather(
        self,
        query_D: Vector | None,
        seen_ids: Ids,
        config: CandidateConfig,
        clock: StageClock,
        also: Candidates | None = None,
    ) -> Candidates:
        def search(query_BD: Vector, k: int) -> Ids:
            clock.lap("filter")
            item_ids_BK = self._index.search(query_BD, k).item_ids_BK
            clock.lap("retrieve")
            return item_ids_BK

        candidates = gather(search, query_D, self._item_ID, self._popular_first_I, seen_ids, config, also)
        clock.lap("filter")
        return candidates

    def similar(self, item_id: int, k: int) -> Candidates:
        """The k items nearest to one item, without itself, by the retriever's vectors."""
        only_vectors = CandidateConfig(retrieved=k, popular=0)
        itself = np.array([item_id])
        return self._gather(self._item_ID[item_id], itself, only_vectors, StageClock())


class Ranking:
    """Features and scores of candidates, from the same ``compute`` that made the training examples."""

    def __init__(self, log: EventLog, ranker: Scorer) -> None:
        self._log, self._ranker = log, ranker

    def features(self, query: Query, candidates: Candidates) -> Vector:
        """features_KF, columns as in ``FEATURE_NAMES``."""
        known = query.user_id if query.user_id < self._log.num_users else UNKNOWN_USER
        ranking_query = RankingQuery(
            known,
            query.time,
            candidates.item_ids_K,
            candidates.scores_K,
            candidates.sources_K,
            query.history_ids,
        )
        return compute(self._log, ranking_query)

    def score(self, features_KF: Vector, item_ids_K: Ids) -> Vector:
        return self._ranker.score(features_KF, item_ids_K)

    def explain(self, features_KF: Vector, item_ids_K: Ids) -> Vector:
        """contributions_KF: what each feature added to each score."""
        return self._ranker.explain(features_KF, item_ids_K)


class Reranking:
    """The last word on the order: the ranker's, or similar items spread out."""

    def __init__(self, item_ID: Vector | None = None, diversity: float = 0.0) -> None:
        """``diversity`` above 0, up to 1, needs the item vectors."""
        self._item_ID, self._diversity = item_ID, diversity

    def order(self, candidates: Candidates, scores_K: Vector, k: int) -> Ids:
        """Positions of the k items to show; ties keep the order of retrieval."""
        if self._item_ID is None or self._diversity == 0.0:
            return np.argsort(-scores_K, kind="stable")[:k]
        return spread_out(scores_K, self._item_ID[candidates.item_ids_K], k, self._diversity)


def spread_out(scores_K: Vector, vectors_KD: Vector, k: int, diversity: float) -> Ids:
    """Positions of k items chosen one by one: the best of (1 - d) * score - d * similarity to those chosen.

    Maximal marginal relevance: Carbonell & Goldstein, SIGIR 1998,
    https://doi.org/10.1145/290941.291025. Scores are scaled to 0..1 and similarities are cosines.
    """
    spread = float(np.ptp(scores_K)) or 1.0
    relevance_K = (1.0 - diversity) * (scores_K - scores_K.min()) / spread
    unit_KD = vectors_KD / np.maximum(np.linalg.norm(vectors_KD, axis=1, keepdims=True), 1e-12)
    nearest_K = np.zeros(len(scores_K), np.float32)
    chosen: list[int] = []
    for _ in range(min(k, len(scores_K))):
        value_K = relevance_K - diversity * nearest_K
        value_K[chosen] = -np.inf
        chosen.append(int(value_K.argmax()))
        nearest_K = np.maximum(nearest_K, unit_KD @ unit_KD[chosen[-1]])
    return np.array(chosen, dtype=np.int64)
