"""The last word on a list: so many items as were asked for."""

import numpy as np

from recray.arrays import Float32s, Int64s
from recray.serve.state import RequestState


class Shorten:
    """Leaves the first ``query.k`` items, and of the features of all that was ranked those of these items."""

    def __call__(self, state: RequestState) -> RequestState:
        k, drawn_S, features_KF = state.query.k, state.propensities_S, state.features_KF
        order_S = state.order_S[:k]
        return state._replace(
            order_S=order_S,
            propensities_S=None if drawn_S is None else drawn_S[:k],
            features_SF=None if features_KF is None else _of_shown(features_KF, order_S, state.num_ranked),
            # Few ask for reasons; in a spread placement the features of all candidates would travel along.
            features_KF=features_KF if state.query.explain else None,
        )


def _of_shown(features_KF: Float32s, order_S: Int64s, num_ranked: int) -> Float32s:
    if (is_ranked_S := order_S < num_ranked).all():
        return features_KF[order_S]
    features_SF = np.full((len(order_S), features_KF.shape[1]), np.nan, np.float32)
    features_SF[is_ranked_S] = features_KF[order_S[is_ranked_S]]
    return features_SF
