"""The compiled loops of a request's look-ups, a candidate at a time, in the place of a dozen passes of NumPy.

What they answer is defined where they are called, in ``features``: events lie sorted by (owner, time), and
a key is owner * span + seconds on the log's clock.

Shapes: K owners or candidates, N events, H items of a history, R kinds of weight, W labels of an item,
I items.
"""

# They are compiled from their source: their arguments have no Python types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc"

from functools import partial

import numpy as np
from numba import njit, types

# Compiled when this is imported, so that no request waits for it; found on disk from the second time on.
_loop = partial(njit, nogil=True, cache=True)


def _array(dtype, ndim=1):
    """Also one that may not be written to, as Ray hands them on."""
    return types.Array(dtype, ndim, "C", readonly=True)


_int = types.int64
_ints, _floats = _array(_int), _array(types.float64)
_int32s = _array(types.int32)


@_loop((_ints, _ints, _int, _ints, _ints))
def places_before(keys_N, starts, span, owner_K, moment_K):
    """Where each owner's events at its moment or later begin."""
    place_K = np.empty(len(owner_K), np.int64)
    for k in range(len(owner_K)):
        owner = owner_K[k]
        key = owner * span + moment_K[k]
        low, high = starts[owner], starts[owner + 1]
        if high > low and keys_N[high - 1] < key:  # live traffic: all has happened
            low = high
        while low < high:
            middle = (low + high) // 2
            if keys_N[middle] < key:
                low = middle + 1
            else:
                high = middle
        place_K[k] = low
    return place_K


@_loop((_ints, _ints, _int, _int, _floats, _ints, _ints))
def past(keys_N, starts, span, origin, sums_N, owner_K, stop_K):
    """(events_K, rating_sum_K, first_time_K, last_time_K) of owners' events before the places ``stop_K``."""
    count = len(owner_K)
    events_K, sum_K = np.empty(count, np.int64), np.empty(count)
    first_K, last_K = np.full(count, np.nan), np.full(count, np.nan)
    for k in range(count):
        owner, stop = owner_K[k], stop_K[k]
        start, epoch = starts[owner], origin - owner * span
        events_K[k] = stop - start
        sum_K[k] = sums_N[stop] - sums_N[start]
        if stop > start:
            first_K[k] = keys_N[start] + epoch
            last_K[k] = keys_N[stop - 1] + epoch
    return events_K, sum_K, first_K, last_K


@_loop((_int32s, _ints, _int, _ints, _int32s, _ints))
def followers(places_M, limits_M, steps, keys_N, items_N, item_ids_K):
    """How often each item is among the ``steps`` events after one of the places M, with keys below its limit.

    Behind the last event there is a key above all limits.
    """
    counts_K = np.zeros(len(item_ids_K), np.int64)
    for m in range(len(places_M)):
        for place in range(places_M[m] + 1, places_M[m] + 1 + steps):
            if keys_N[place] >= limits_M[m]:
                break
            for k in range(len(item_ids_K)):
                counts_K[k] += item_ids_K[k] == items_N[place]
    return counts_K


@_loop((_array(types.int32, 2), _int, _array(types.float64, 2), _ints, _ints))
def shared(places_IW, num_places, weights_RH, item_ids_H, item_ids_K):
    """shared_RK: the weights of the past items, once for each label that they share with a candidate.

    Args:
        places_IW: 1 + the place of each label of an item; behind its last one 0.
    """
    kinds, width = len(weights_RH), places_IW.shape[1]
    totals_PR = np.zeros((num_places, kinds))
    for h in range(len(item_ids_H)):
        for w in range(width):
            place = places_IW[item_ids_H[h], w]
            if place == 0:
                break
            for r in range(kinds):
                totals_PR[place, r] += weights_RH[r, h]
    shared_RK = np.zeros((kinds, len(item_ids_K)))
    for k in range(len(item_ids_K)):
        for w in range(width):
            place = places_IW[item_ids_K[k], w]
            if place == 0:
                break
            for r in range(kinds):
                shared_RK[r, k] += totals_PR[place, r]
    return shared_RK


@_loop((_floats,))
def ranks(values_K):
    """1 + how many values are higher, float32; NaN is lowest.

    Every value is compared with every other: of a few hundred that is several times faster than sorting them.
    """
    count = len(values_K)
    lowest_K = np.empty(count)
    for k in range(count):
        lowest_K[k] = -np.inf if np.isnan(values_K[k]) else values_K[k]
    rank_K = np.empty(count, np.float32)
    for k in range(count):
        higher = 0
        for j in range(count):
            higher += lowest_K[j] > lowest_K[k]
        rank_K[k] = 1 + higher
    return rank_K
