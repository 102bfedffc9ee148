"""The last word on the order: the ``k`` best of what is left, or as many unlike each other."""

import numpy as np

from recray.arrays import Float32s, Int64s
from recray.serve.state import RequestState


class Shorten:
    """Leaves ``query.k`` items; those that fill a list stay behind.

    Args:
        item_ID: vectors that tell how similar items are; None where ``diversity`` is 0.
        diversity: 0: the order stands; up to 1: similar items are spread out, see ``spread_out``.
    """

    def __init__(self, item_ID: Float32s | None = None, diversity: float = 0.0) -> None:
        self._item_ID, self._diversity = item_ID, diversity

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``rank``."""
        k, order_S = state.query.k, state.order_S
        if self._item_ID is not None and (order_S < state.num_ranked).any():
            is_ranked_S = order_S < state.num_ranked
            left_S = np.sort(order_S[is_ranked_S])  # ties keep the order of retrieval
            vectors_SD = self._item_ID[state.candidates.item_ids_K[left_S]]
            spread_S = left_S[spread_out(state.scores_K[left_S], vectors_SD, k, self._diversity)]
            order_S = np.append(spread_S, order_S[~is_ranked_S])
        state.clock.lap("rank")
        return state._replace(order_S=order_S[:k])


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
