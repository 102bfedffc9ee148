"""NDCG of graded sessions (queries, lists of a user), with ties as expected credit.

``ndcg@k = sum_{r <= k} (2^y_r - 1) / log2(1 + r)``, over the same sum for the best order: Burges et al.,
Learning to Rank using Gradient Descent, ICML 2005. Rows of equal score share their gains evenly, which
is the expectation over all their orders (McSherry & Najork, ECIR 2008).

Shapes: N rows, S sessions, U sessions with something relevant.
"""

from collections.abc import Sequence

import numpy as np

from recray.arrays import Float64s, Int64s
from recray.config import ConfigError
from recray.eval.evaluate import Evaluation
from recray.schema import DataError, ProtocolCard


def evaluate_sessions(
    scores_N: Float64s, grades_N: Float64s, offsets_S: Int64s, card: ProtocolCard, ks: Sequence[int] = (10,)
) -> Evaluation:
    """``ndcg@k`` of each session that has a relevant row; ``user_ids_U`` are numbers of sessions.

    Raises:
        ConfigError: a k below 1.
        DataError: NaN scores.
    """
    found = session_ndcg(scores_N, grades_N, offsets_S, ks)
    kept_U = np.flatnonzero(~np.isnan(found[f"ndcg@{ks[0]}"]))
    per_query = {name: values_S[kept_U] for name, values_S in found.items()}
    return Evaluation(card=card, per_query=per_query, scalars={}, user_ids_U=kept_U)


def session_ndcg(
    scores_N: Float64s, grades_N: Float64s, offsets_S: Int64s, ks: Sequence[int]
) -> dict[str, Float64s]:
    """``ndcg@k`` for every k: float64 [S], NaN where nothing is relevant.

    Args:
        scores_N: higher is better; the rows of session s are ``offsets_S[s]:offsets_S[s + 1]``.
        grades_N: at least 0; 0 is not relevant.
    """
    if not ks or min(ks) < 1:
        raise ConfigError(f"ks must be list lengths of at least 1, got {tuple(ks)}")
    if np.isnan(scores_N).any():
        raise DataError(f"{int(np.isnan(scores_N).sum())} of {len(scores_N)} scores are NaN")
    lengths_S = np.diff(offsets_S)
    session_N = np.repeat(np.arange(len(lengths_S)), lengths_S)
    position_N = np.arange(len(scores_N)) - np.repeat(offsets_S[:-1], lengths_S)
    gains_N = np.exp2(grades_N.astype(np.float64)) - 1
    best_N = gains_N[np.lexsort((-gains_N, session_N))]
    expected_N = _shared_gains(scores_N, gains_N, session_N)
    result = {}
    for k in ks:
        discount_N = np.where(position_N < k, 1 / np.log2(position_N + 2), 0.0)
        dcg_S = np.bincount(session_N, expected_N * discount_N, minlength=len(lengths_S))
        ideal_S = np.bincount(session_N, best_N * discount_N, minlength=len(lengths_S))
        with np.errstate(invalid="ignore"):
            result[f"ndcg@{k}"] = np.minimum(dcg_S / ideal_S, 1.0)  # a rounding error may pass 1
    return result


def _shared_gains(scores_N: Float64s, gains_N: Float64s, session_N: Int64s) -> Float64s:
    """The gain expected at each place of each session, best place first."""
    order_N = np.lexsort((-scores_N, session_N))
    scores_N, gains_N, session_N = scores_N[order_N], gains_N[order_N], session_N[order_N]
    begins_N = np.ones(len(scores_N), dtype=bool)
    begins_N[1:] = (scores_N[1:] != scores_N[:-1]) | (session_N[1:] != session_N[:-1])
    group_N = np.cumsum(begins_N) - 1
    mean_G = np.bincount(group_N, gains_N) / np.bincount(group_N)
    shared_N: Float64s = mean_G[group_N]
    return shared_N
