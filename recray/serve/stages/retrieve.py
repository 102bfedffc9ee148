"""Retrieve and filter: the retriever's best and the most popular items, without those seen.

Shapes: I items, D vector dim, K candidates.
"""

from functools import partial
from typing import Protocol

import numpy as np

from recray.arrays import Bools, Float32s, Int64s
from recray.bundles.searcher import Searcher, single_query
from recray.features.candidates import CandidateConfig, Candidates, SearchQuery, gather
from recray.features.look_ups import LookUps
from recray.features.past import heard_until
from recray.serve.barred import Barred
from recray.serve.clock import StageClock
from recray.serve.query import MAX_HISTORY, MAX_K, History, Query
from recray.serve.seen import REMOVED, Seen
from recray.serve.stages.guard import Guard
from recray.serve.state import NO_CANDIDATES, RequestState, Skipped, StoodIn

NOTHING: Int64s = np.empty(0, np.int64)
NO_HISTORY = History(NOTHING, NOTHING)


class Source(Protocol):
    """One more proposer of candidates."""

    def propose(self, query: Query, seen_ids: Int64s) -> Candidates:
        """Unseen items of the retriever's catalogue with their source bits; may be none."""


def history_of(query: Query, log: LookUps | None) -> History:
    """The client's history, else what a known user did before; oldest first.

    What a client sends without times counts as just before the request.
    """
    if query.history_ids is not None:
        times_H = query.history_times
        if times_H is None:
            times_H = np.full(len(query.history_ids), query.time)
        return History(query.history_ids, times_H)
    if query.past is not None:
        return query.past
    if query.told is not None:
        return History(query.told.item_ids_H[-MAX_HISTORY:], query.told.times_H[-MAX_HISTORY:])
    if log is None or not 0 <= query.user_id < log.num_users:
        return NO_HISTORY
    events = log.events_before(query.user_id, query.time)
    return History(events.item_ids_H.astype(np.int64), events.times_H)


def asked_at(query: Query, history: History, log: LookUps | None) -> int:
    """The moment that a model's waits end at: time stops where the log ends, see ``heard_until``."""
    if log is None:
        return query.time
    return heard_until(query.time, log.end, history.times_H[-1] if len(history.times_H) else np.nan)


class Popular:
    """All items, most popular first; those that cannot be had are last, as long as that is so."""

    def __init__(self, popular_first_I: Int64s, barred: Barred) -> None:
        self._all_I, self._barred = popular_first_I, barred
        self._made: tuple[Bools | None, Int64s] = None, self._all_I

    @property
    def first_I(self) -> Int64s:
        now_I, first_I = self._made
        if now_I is not self._barred.unavailable_I:
            now_I = self._barred.unavailable_I
            is_last_I = now_I[self._all_I]
            first_I = np.concatenate([self._all_I[~is_last_I], self._all_I[is_last_I]])
            self._made = now_I, first_I
        return first_I


class Retrieve:
    """The first stage of a retriever.

    Args:
        second_source: its items are scored by the retriever like all others; late or failing, it is left out.
        barred: items that a rule will leave out: there are enough others among the candidates, and
            ``similar`` does not answer with them.
        seen: what becomes of items that the user has seen.
    """

    without = "generate"

    def __init__(
        self,
        searcher: Searcher,
        popular_first_I: Int64s,
        log: LookUps | None,
        config: CandidateConfig,
        second_source: Source | None = None,
        barred: Barred | None = None,
        seen: Seen = REMOVED,
    ) -> None:
        self._barred = barred or Barred(len(popular_first_I))
        self._seen = seen
        self._searcher, self._log, self._config, self._second = searcher, log, config, second_source
        self._second_guard = Guard("second_source")
        self._popular = Popular(popular_first_I, self._barred)

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``retrieve`` (model and search), ``filter`` and ``generate`` (one more source)."""
        query, clock = state.query, state.clock
        barred = self._barred.of(query.context)
        # What is denied is no candidate at all; of what cannot be had just now there is little.
        seen_ids = np.concatenate([self._seen.removed(query, self._log), barred.denied_ids])
        clock.lap("filter")
        prepared = self._searcher.known_ahead(query.user_id)
        if prepared is None:
            history = history_of(query, self._log)
            time = asked_at(query, history, self._log)
            prepared = next(self._searcher.prepare(single_query(query.user_id, *history, time)))
        search, fallback = prepared
        clock.lap("retrieve")
        second = None
        if self._second is not None and search is not None:
            propose = partial(self._second.propose, query, seen_ids)
            proposed = self._second_guard.attempt(query, clock, propose)
            clock.lap("generate")
            if isinstance(proposed, Skipped):
                state = state.skip(proposed)
            else:
                second = proposed
        candidates = self._gather(search, seen_ids, self._config, clock, second)
        missing = query.k - int(np.count_nonzero(~barred.mask_I[candidates.item_ids_K]))
        if missing <= 0:
            return retrieved(state, candidates, fallback, self._log)
        # As many for every k: a shorter list is the beginning of a longer one.
        enough = max(query.k, MAX_K)
        wide = CandidateConfig(retrieved=enough, popular=enough)
        seen_ids = np.concatenate([seen_ids, barred.ids])
        wider = self._gather(search, seen_ids, wide, clock, second)
        further = further_of(candidates, wider, missing)
        return retrieved(state, candidates, fallback, self._log, further)

    def _gather(
        self,
        query: SearchQuery | None,
        seen_ids: Int64s,
        config: CandidateConfig,
        clock: StageClock,
        second: Candidates | None = None,
    ) -> Candidates:
        def search(query_BD: Float32s, k: int) -> Int64s:
            assert query is not None
            clock.lap("filter")
            item_ids_BK = query.search(query_BD, k)
            clock.lap("retrieve")
            return item_ids_BK

        timed = query._replace(search=search) if query else None
        candidates = gather(timed, self._popular.first_I, seen_ids, config, second)
        clock.lap("filter")
        return candidates

    def similar(self, item_id: int, k: int) -> Candidates:
        """The k items nearest to one item, without itself, by the retriever."""
        only_retrieved = CandidateConfig(retrieved=k, popular=0)
        excluded_ids = np.append(self._barred.now.ids, item_id)
        return self._gather(self._searcher.like(item_id), excluded_ids, only_retrieved, StageClock())


def further_of(candidates: Candidates, wider: Candidates, count: int) -> Candidates:
    """The first so many of the wider ones that are no candidates yet."""
    is_new_K = ~np.isin(wider.item_ids_K, candidates.item_ids_K)
    places = np.flatnonzero(is_new_K)[:count]
    return Candidates(wider.item_ids_K[places], wider.scores_K[places], wider.sources_K[places])


def retrieved(
    state: RequestState,
    candidates: Candidates,
    fallback: StoodIn | None,
    log: LookUps | None,
    further: Candidates = NO_CANDIDATES,
) -> RequestState:
    """The state after a first stage: every candidate is to be shown, in the order of retrieval.

    Args:
        further: what fills a list that is longer than the candidates, after them and unranked.
    """
    num_ranked = len(candidates.item_ids_K)
    if len(further.item_ids_K):
        candidates = candidates.then(further)
    return state._replace(
        candidates=candidates,
        num_ranked=num_ranked,
        scores_K=candidates.scores_K,
        order_S=np.arange(len(candidates.item_ids_K)),
        fallback=fallback,
        known_until=log.newest if log else None,
    )
