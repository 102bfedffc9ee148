"""Ids of items on their way between deployments, which may not all know the same new items yet.

Published items have the same row in every process of a version. A new one travels as a number made of its raw
id; where it arrives it is the row that it has there, or it is left out. A process that knows no new items
pays a comparison.

Shapes: N ids, K candidates, S of them to be shown.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recray.arrays import Bools, Int64s
from recray.features.candidates import Candidates
from recray.serve.query import History, Query
from recray.serve.state import RequestState

FIRST_NUMBER = 2**62  # above all rows


class Crossing:
    """
    Args:
        num_published: items of the version as it was published.
        new_raw_ids: of the items that this process knows besides, whose rows follow.
    """

    def __init__(self, num_published: int, new_raw_ids: Sequence[str] = ()) -> None:
        self._num_published = num_published
        self._numbers = np.array([_number(raw) for raw in new_raw_ids], np.int64)
        self._rows = {number: num_published + n for n, number in enumerate(self._numbers.tolist())}

    def out(self, rows_N: Int64s) -> Int64s:
        """As they travel."""
        is_new_N = rows_N >= self._num_published
        if not is_new_N.any():
            return rows_N
        ids_N = rows_N.copy()
        ids_N[is_new_N] = self._numbers[rows_N[is_new_N] - self._num_published]
        return ids_N

    def back(self, ids_N: Int64s) -> Int64s:
        """rows_N of this process; -1 where it does not know the item."""
        is_new_N = ids_N >= FIRST_NUMBER
        if not is_new_N.any():
            return ids_N
        rows_N = ids_N.copy()
        rows_N[is_new_N] = [self._rows.get(number, -1) for number in ids_N[is_new_N].tolist()]
        return rows_N

    def query_out(self, query: Query) -> Query:
        exclude_ids, history_ids = self.out(query.exclude_ids), query.history_ids
        if history_ids is not None:
            history_ids = self.out(history_ids)
        told = query.told and query.told._replace(item_ids_H=self.out(query.told.item_ids_H))
        return replace(query, exclude_ids=exclude_ids, history_ids=history_ids, told=told)

    def query_back(self, query: Query) -> Query:
        exclude_ids, history_ids = self.back(query.exclude_ids), query.history_ids
        history_times = query.history_times
        if history_ids is not None:
            history_ids = self.back(history_ids)
            is_known_H = history_ids >= 0
            history_ids = history_ids[is_known_H] if is_known_H.any() else None
            if history_times is not None:
                history_times = None if history_ids is None else history_times[is_known_H]
        told = query.told
        if told is not None:
            rows_H = self.back(told.item_ids_H)
            told = History(rows_H[rows_H >= 0], told.times_H[rows_H >= 0])
        return replace(
            query,
            exclude_ids=exclude_ids[exclude_ids >= 0],
            history_ids=history_ids,
            history_times=history_times,
            told=told,
        )

    def candidates_out(self, candidates: Candidates) -> Candidates:
        return candidates._replace(item_ids_K=self.out(candidates.item_ids_K))

    def candidates_back(self, candidates: Candidates) -> Candidates:
        """Without those that this process does not know."""
        rows_K = self.back(candidates.item_ids_K)
        return _kept(candidates._replace(item_ids_K=rows_K), rows_K >= 0)

    def out_of(self, state: RequestState) -> RequestState:
        return state._replace(
            query=self.query_out(state.query), candidates=self.candidates_out(state.candidates)
        )

    def back_in(self, state: RequestState) -> RequestState:
        """Without candidates that this process does not know."""
        rows_K = self.back(state.candidates.item_ids_K)
        state = state._replace(
            query=self.query_back(state.query), candidates=state.candidates._replace(item_ids_K=rows_K)
        )
        is_known_K = rows_K >= 0
        return state if is_known_K.all() else _without(state, is_known_K)


def _without(state: RequestState, is_kept_K: Bools) -> RequestState:
    """A state without some of its candidates, wherever they stand."""
    order_S, explanation = state.order_S, state.explanation
    if explanation is not None:  # has a row for each of the ranked items to show, in their order
        is_kept_R = is_kept_K[order_S[order_S < state.num_ranked]]
        explanation = replace(
            explanation,
            features_SF=explanation.features_SF[is_kept_R],
            contributions_SF=explanation.contributions_SF[is_kept_R],
        )
    place_K = np.cumsum(is_kept_K) - 1
    state = state.keep(is_kept_K[order_S])
    return state._replace(
        candidates=_kept(state.candidates, is_kept_K),
        num_ranked=int(is_kept_K[: state.num_ranked].sum()),
        scores_K=state.scores_K[is_kept_K],
        order_S=place_K[state.order_S],
        explanation=explanation,
    )


def _kept(candidates: Candidates, is_kept_K: Bools) -> Candidates:
    item_ids_K, scores_K, sources_K = candidates
    return Candidates(item_ids_K[is_kept_K], scores_K[is_kept_K], sources_K[is_kept_K])


def _number(raw_id: str) -> int:
    digest = hashlib.blake2b(raw_id.encode(), digest_size=8).digest()
    return FIRST_NUMBER | int.from_bytes(digest) >> 2
