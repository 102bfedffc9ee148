"""The compiled loop of ``models.forest``: rows walk down all trees, a level at a time.

Shapes: K rows, F features, N nodes of all trees, T trees.
"""

# They are compiled from their source: their arguments have no Python types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc"

import numpy as np
from numba import njit, types

ROWS = 64  # that walk side by side: what they look at stays in the innermost cache


_uints, _floats = types.Array(types.uint32, 1, "C"), types.Array(types.float32, 1, "C")
_rows = types.Array(types.float32, 2, "C", readonly=True)


# Compiled when this is imported, so that no request waits for it; found on disk from the second time on.
@njit((_rows, _uints, _floats, _uints, _floats, _uints, _uints, _floats), nogil=True, cache=True)
def add_leaves(features_KF, feature_N, threshold_N, child_N, leaf_N, root_T, depth_T, scores_K):
    """Adds to each score the leaf that its row reaches in each tree, in the order of the trees.

    A node that is no leaf sends a row to ``child_N``, or to the one after it where the feature is not below
    the threshold. A leaf sends every row to itself, so that all take as many steps and nothing branches.
    Features F to 2F are the same once more: there what is missing is not below any threshold.
    """
    num_rows, num_features = features_KF.shape
    values = np.empty(2 * num_features * ROWS, np.float32)
    node = np.empty(ROWS, np.uint32)
    one, rows = np.uint32(1), np.uint32(ROWS)
    for first in range(0, num_rows, ROWS):
        count = min(ROWS, num_rows - first)
        for k in range(count):
            for f in range(num_features):
                value = features_KF[first + k, f]
                missing = np.isnan(value)
                values[f * ROWS + k] = -np.inf if missing else value
                values[(num_features + f) * ROWS + k] = np.inf if missing else value
        for t in range(len(root_T)):
            node[:] = root_T[t]
            for _ in range(depth_T[t]):
                for k in range(ROWS):  # where fewer are left, the others' values do not matter
                    n = node[k]
                    value = values[np.uint32(feature_N[n] * rows + np.uint32(k))]
                    node[k] = child_N[n] + (np.uint32(0) if value < threshold_N[n] else one)
            for k in range(count):
                scores_K[first + k] += leaf_N[node[k]]
