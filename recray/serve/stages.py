"""The stages of a recommendation: retrieve, filter, features, rank. Plain Python objects.

They know neither HTTP nor Ray nor raw ids; ``bundles.searcher`` asks the retriever, ``pipeline`` joins
the stages and ``deployments`` places them.

Shapes: I items, D vector dim, K candidates, F features.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from recray.arrays import Float32s, Int64s
from recray.bundles.searcher import Fallback, Searcher, single_query
from recray.contract import Scorer
from recray.features.candidates import CandidateConfig, Candidates, SearchQuery, gather, popular_first
from recray.features.log import EventLog
from recray.features.ranking import RankingQuery, compute
from recray.serve.catalogue import UNKNOWN_USER, Query
from recray.serve.clock import StageClock


@dataclass(frozen=True)
class Retrieved:
    """Unseen candidates of one query, and how they were found."""

    candidates: Candidates
    fallback: Fallback | None  # None: as the retriever was trained to


class RetrievalStage(Protocol):
    """Finds unseen candidates: by search (``Retrieval``) or by generation (``generative``)."""

    def retrieve(self, query: Query, clock: StageClock) -> Retrieved:
        """At least ``query.k`` candidates, unless fewer items of the catalogue are unseen."""

    def similar(self, item_id: int, k: int) -> Candidates:
        """The k items most like one item, without itself."""


class History(NamedTuple):
    """What a user did before a request, oldest first."""

    item_ids_H: Int64s
    times_H: Int64s  # unix seconds


NO_HISTORY = History(np.empty(0, np.int64), np.empty(0, np.int64))


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
        return NO_HISTORY
    events = log.events_before(query.user_id, query.time)
    return History(events.item_ids_H.astype(np.int64), events.times_H)


class Source(Protocol):
    """One more proposer of candidates."""

    def propose(self, query: Query, seen_ids: Int64s) -> Candidates:
        """Unseen items of the retriever's catalogue with their source bits; may be none."""


def seen_by(query: Query, log: EventLog | None) -> Int64s:
    """Items that must not come back: excluded, in the history, or in the log of the user."""
    seen: list[npt.NDArray[np.integer[Any]]] = [query.exclude_ids]
    if query.history_ids is not None:
        seen.append(query.history_ids)
    if log is not None and query.user_id < log.num_users:
        seen.append(log.seen_before(query.user_id, query.time))
    return np.concatenate(seen, dtype=np.int64)


class Retrieval:
    """Retrieve and filter: the retriever's best and the most popular items, without those seen.

    Args:
        also: one more source, whose items are scored by the retriever like all others.
    """

    def __init__(
        self,
        searcher: Searcher,
        item_counts_I: Int64s,
        log: EventLog | None,
        config: CandidateConfig,
        also: Source | None = None,
    ) -> None:
        self._searcher, self._log, self._config, self._also = searcher, log, config, also
        self._popular_first_I = popular_first(item_counts_I)

    def retrieve(self, query: Query, clock: StageClock) -> Retrieved:
        """At least ``query.k`` candidates, unless fewer items of the catalogue are unseen.

        Books ``retrieve`` (model and search), ``filter`` and ``generate`` (one more source).
        """
        seen_ids = seen_by(query, self._log)
        clock.lap("filter")
        history = history_of(query, self._log) if self._searcher.needs_history(query.user_id) else NO_HISTORY
        asked, fallback = next(self._searcher.prepare(single_query(query.user_id, *history, query.time)))
        clock.lap("retrieve")
        also = None
        if self._also is not None and asked is not None:
            also = self._also.propose(query, seen_ids)
            clock.lap("generate")
        config = self._config
        if query.k > config.retrieved:
            config = replace(config, retrieved=query.k)
        candidates = self._gather(asked, seen_ids, config, clock, also)
        if len(candidates.item_ids_K) < query.k:
            # Popularity alone, or an approximate index that does not reach so many items.
            config = replace(config, popular=query.k)
            candidates = self._gather(asked, seen_ids, config, clock, also)
        return Retrieved(candidates, fallback)

    def _gather(
        self,
        asked: SearchQuery | None,
        seen_ids: Int64s,
        config: CandidateConfig,
        clock: StageClock,
        also: Candidates | None = None,
    ) -> Candidates:
        def search(query_BD: Float32s, k: int) -> Int64s:
            assert asked is not None
            clock.lap("filter")
            item_ids_BK = asked.search(query_BD, k)
            clock.lap("retrieve")
            return item_ids_BK

        timed = asked._replace(search=search) if asked else None
        candidates = gather(timed, self._popular_first_I, seen_ids, config, also)
        clock.lap("filter")
        return candidates

    def similar(self, item_id: int, k: int) -> Candidates:
        """The k items nearest to one item, without itself, by the retriever."""
        only_retrieved = CandidateConfig(retrieved=k, popular=0)
        itself = np.array([item_id])
        return self._gather(self._searcher.like(item_id), itself, only_retrieved, StageClock())


class Ranking:
    """Features and scores of candidates, from the same ``compute`` that made the training examples."""

    def __init__(self, log: EventLog, ranker: Scorer) -> None:
        self._log, self._ranker = log, ranker
        self.feature_names = ranker.feature_names

    def features(self, query: Query, candidates: Candidates) -> Float32s:
        """features_KF, columns as in ``feature_names``."""
        known = query.user_id if query.user_id < self._log.num_users else UNKNOWN_USER
        ranking_query = RankingQuery(
            known,
            query.time,
            candidates.item_ids_K,
            candidates.scores_K,
            candidates.sources_K,
            query.history_ids,
            query.history_times,
        )
        return compute(self._log, ranking_query, self.feature_names)

    def score(self, features_KF: Float32s, item_ids_K: Int64s) -> Float32s:
        return self._ranker.score(features_KF, item_ids_K)

    def explain(self, features_KF: Float32s, item_ids_K: Int64s) -> Float32s:
        """contributions_KF: what each feature added to each score."""
        return self._ranker.explain(features_KF, item_ids_K)


class Reranking:
    """The last word on the order: the ranker's, or similar items spread out."""

    def __init__(self, item_ID: Float32s | None = None, diversity: float = 0.0) -> None:
        """``diversity`` above 0, up to 1, needs the item vectors."""
        self._item_ID, self._diversity = item_ID, diversity

    def order(self, candidates: Candidates, scores_K: Float32s, k: int) -> Int64s:
        """Positions of the k items to show; ties keep the order of retrieval."""
        if self._item_ID is None or self._diversity == 0.0:
            return np.argsort(-scores_K, kind="stable")[:k]
        return spread_out(scores_K, self._item_ID[candidates.item_ids_K], k, self._diversity)


def spread_out(scores_K: Float32s, vectors_KD: Float32s, k: int, diversity: float) -> Int64s:
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
