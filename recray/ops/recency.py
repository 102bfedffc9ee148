"""How much an older event of a user counts beside newer ones: taste drifts, and what is asked for comes next.

Shapes: N events.
"""

import numpy as np

from recray.arrays import Float32s, Int64s, blocks


def recency_weights(row_ids_N: Int64s, recency: float) -> Float32s:
    """0.1 + exp(-newer / recency) of each event, where ``newer`` counts the later events of its row.

    Args:
        row_ids_N: whose each event is, 0 or more; the events of a row are in order of time.
        recency: above 0.
    """
    order_N = np.argsort(row_ids_N, kind="stable")
    ends = np.cumsum(np.bincount(row_ids_N))
    weights_N = np.empty(len(row_ids_N), np.float32)
    for block in blocks(len(row_ids_N)):  # what is needed on the way is several times as large
        places = order_N[block]
        newer = ends[row_ids_N[places]] - 1 - np.arange(block.start, block.stop)
        weights_N[places] = 0.1 + np.exp(-newer / recency)
    return weights_N
