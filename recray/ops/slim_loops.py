"""The compiled loop of ``models.slim``: coordinate descent for one item after the other.

Shapes: J items, C of them that may have a weight.
"""

# They are compiled from their source: their arguments have no Python types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc"

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def descend(gram_JJ, start, stop, l1, l2, sweeps, tolerance, weights_JJ):
    """Fills columns start to stop of the weights, zeros before: ``w >= 0`` that minimise

    ``w G w / 2 - g_j w + l2 |w|² / 2 + l1 |w|₁``, ``w_j = 0``, g_j item j's row of G

    by going over the weights of a column until none moves by more than the tolerance, ``sweeps`` times at
    most (Friedman, Hastie & Tibshirani, Regularization Paths for Generalized Linear Models via Coordinate
    Descent, 2010, section 2.2, covariance updates). Products and weights are not negative, so an item whose
    product with j is at most l1 never has a weight: the others alone are gone over.
    """
    num_items = len(gram_JJ)
    may_C, weight_C = np.empty(num_items, np.int64), np.empty(num_items)
    left_C = np.empty(num_items)  # g_j - G w
    for j in range(start, stop):
        count = 0
        for i in range(num_items):
            if i != j and gram_JJ[j, i] > l1:
                may_C[count], left_C[count], weight_C[count] = i, gram_JJ[j, i], 0.0
                count += 1
        for _ in range(sweeps):
            largest = 0.0
            for c in range(count):
                row_J = gram_JJ[may_C[c]]
                own = row_J[may_C[c]]
                weight = max(left_C[c] + own * weight_C[c] - l1, 0.0) / (own + l2)
                moved = weight - weight_C[c]
                if moved == 0.0:
                    continue
                weight_C[c] = weight
                largest = max(largest, abs(moved))
                for d in range(count):
                    left_C[d] -= moved * row_J[may_C[d]]
            if largest <= tolerance:
                break
        for c in range(count):
            weights_JJ[may_C[c], j] = weight_C[c]
