"""What takes the place of a first stage that is late, fails or is gone: what it found for the user before,
else what is popular. What was seen or cannot be had stays out, and the stages that follow do their part.

Shapes: I items, K candidates.
"""

from typing import Literal, NamedTuple

import numpy as np
from cachetools import LRUCache

from recray.arrays import Int64s
from recray.features.candidates import CandidateConfig, Candidates, popular_only
from recray.features.look_ups import LookUps
from recray.serve.barred import Barred
from recray.serve.query import MAX_K
from recray.serve.seen import Seen
from recray.serve.stages.guard import Guard
from recray.serve.stages.retrieve import Popular, further_of, retrieved
from recray.serve.state import RequestState, RetrievalStage, Skipped


class Known(NamedTuple):
    """What a stand-in goes by: little, beside vectors and an index."""

    popular_first_I: Int64s  # all items
    log: LookUps | None  # what known users have seen
    barred: Barred
    config: CandidateConfig
    seen: Seen


class StandIn:
    """A first stage that always has an answer. Belongs to one thread.

    Args:
        found: for users before, also by those that know more items or fewer.
    """

    def __init__(self, known: Known, found: LRUCache[int, Candidates]) -> None:
        self._known, self._found = known, found
        self._popular = Popular(known.popular_first_I, known.barred)

    def remember(self, state: RequestState) -> None:
        """What the first stage itself has found for a known user."""
        query = state.query
        if query.user_id >= 0 and query.lenient and state.fallback != "popular":
            self._found[query.user_id] = state.ranked

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``filter``; the fallback is ``recent`` or ``popular``."""
        query, known = state.query, self._known
        removed_ids = known.seen.removed(query, known.log)
        gone_ids = np.concatenate([removed_ids, known.barred.of(query.context).ids])
        candidates = self._recent(query.user_id, gone_ids)
        fallback: Literal["recent", "popular"] = "recent" if len(candidates.item_ids_K) else "popular"
        popular = popular_only(self._popular.first_I, gone_ids, MAX_K + len(candidates.item_ids_K))
        if fallback == "popular":
            candidates = popular.first(known.config.popular)
        further = further_of(candidates, popular, max(0, query.k - len(candidates.item_ids_K)))
        state.clock.lap("filter")
        return retrieved(state, candidates, fallback, known.log, further)

    def _recent(self, user_id: int, gone_ids: Int64s) -> Candidates:
        found = self._found.get(user_id)
        if found is None:
            return popular_only(self._popular.first_I, gone_ids, 0)
        item_ids_K, scores_K, sources_K = found
        kept_K = ~np.isin(item_ids_K, gone_ids) & (item_ids_K < len(self._known.popular_first_I))
        return Candidates(item_ids_K[kept_K], scores_K[kept_K], sources_K[kept_K])


class FirstStage:
    """A first stage with its stand-in, in one process.

    Args:
        stage: see ``RetrievalStage.without`` for what counts as no part of its time.
    """

    def __init__(self, stage: RetrievalStage, stand_in: StandIn) -> None:
        self._stage, self._stand_in = stage, stand_in
        self._guard = Guard("retrieve", stage.without)

    def __call__(self, state: RequestState) -> RequestState:
        found = self._guard.attempt(state.query, state.clock, lambda: self._stage(state))
        if isinstance(found, Skipped):
            return self._stand_in(state.skip(found))
        self._stand_in.remember(found)
        return found
