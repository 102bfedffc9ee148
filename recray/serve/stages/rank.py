"""Features and scores of candidates, from the same ``compute`` that made the training examples."""

import numpy as np

from recray.arrays import Float32s
from recray.contract import Scorer
from recray.features.look_ups import LookUps
from recray.features.ranking import RankingQuery, compute
from recray.ops import look_ups
from recray.schema import DataError
from recray.serve.query import UNKNOWN_USER
from recray.serve.stages.retrieve import history_of
from recray.serve.state import Explanation, RequestState, Skipped


class Rank:
    """Orders the candidates by a ranker; ties keep the order of retrieval. What fills a list follows.

    Args:
        helps_until: age of what is known, in seconds, beyond which the order of retrieval is the better one.
    """

    def __init__(self, log: LookUps, ranker: Scorer, helps_until: int | None = None) -> None:
        look_ups.load()
        self._log, self._ranker, self._helps_until = log, ranker, helps_until

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``features`` and ``rank``.

        Raises:
            DataError: a score is no number.
        """
        item_ids_K = state.ranked.item_ids_K
        if not len(item_ids_K):
            return state
        if self._helps_until is not None and (state.age_s or 0) > self._helps_until:
            return state.skip(Skipped("rank", "too old"))
        features_KF = self._features(state)
        state.clock.lap("features")
        scores_K = self._ranker.score(features_KF, item_ids_K)
        if np.isnan(scores_K).any():
            raise DataError("the ranker gives scores that are no numbers: it is damaged")
        order_K = np.argsort(-scores_K, kind="stable")
        if further := len(state.candidates.item_ids_K) - state.num_ranked:
            scores_K = np.append(scores_K, np.full(further, np.nan, np.float32))
            order_K = np.append(order_K, np.arange(state.num_ranked, len(scores_K)))
        state.clock.lap("rank")
        return state._replace(
            scores_K=scores_K,
            order_S=order_K,
            feature_names=self._ranker.feature_names,
            features_KF=features_KF,
        )

    def _features(self, state: RequestState) -> Float32s:
        query = state.query
        known = query.user_id if query.user_id < self._log.num_users else UNKNOWN_USER
        history_ids, history_times = query.history_ids, query.history_times
        if history_ids is None and query.told is not None:
            history_ids, history_times = history_of(query, None)
        if query.past is not None and known == UNKNOWN_USER:
            history_ids, history_times = query.past
        return compute(
            self._log,
            RankingQuery(
                known,
                query.time,
                *state.ranked,
                history_ids,
                history_times,
                known_until=self._log.end,
                context=query.context,
            ),
            self._ranker.feature_names,
        )


class Explain:
    """Adds, where it is asked for, what each feature added to the scores of the items to show."""

    def __init__(self, ranker: Scorer) -> None:
        self._ranker = ranker

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``explain``."""
        if state.features_KF is None:
            return state
        ranked_S = state.order_S[state.order_S < state.num_ranked]
        features_SF = state.features_KF[ranked_S]
        contributions_SF = self._ranker.explain(features_SF, state.candidates.item_ids_K[ranked_S])
        reasons = Explanation(self._ranker.feature_names, features_SF, contributions_SF)
        state.clock.lap("explain")
        return state._replace(explanation=reasons, features_KF=None)
