"""Weights as whole multiples of one decimal unit, so that sums of them are exact and equal ones tie.

0.1 has no binary fraction: ten of them are not quite 1 in floating point, and rounding would break a tie.

Shapes: N weights.
"""

from typing import NamedTuple

import numpy as np

from recray.arrays import Float32s, Float64s

MOST_DECIMALS = 9  # all that 32 bits tell apart, from 0.01 on


class WholeParts(NamedTuple):
    parts_N: Float64s  # whole numbers; sums and products of them are exact below 2^53
    parts_of_one: float  # a weight is its parts divided by this


def whole_parts(weights_N: Float32s) -> WholeParts:
    """By the fewest decimals that write all weights; the weights themselves where more than
    ``MOST_DECIMALS`` would be needed."""
    values_N = weights_N.astype(np.float64)
    for decimals in range(MOST_DECIMALS + 1):
        parts_N = np.round(values_N * 10.0**decimals)
        if ((parts_N / 10.0**decimals).astype(np.float32) == weights_N).all():
            return WholeParts(parts_N, 10.0**decimals)
    return WholeParts(values_N, 1.0)
