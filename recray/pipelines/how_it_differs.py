"""How one feature's logged values differ from what they should be, in words where that can be seen.

Shapes: N shown items, the lists side by side.
"""

from collections.abc import Iterator

import numpy as np

from recray.arrays import Bools, Float32s, Float64s, Int64s
from recray.pipelines.scored_again import same

LEAST = 3  # items that must say the same: one or two may by chance
MOSTLY = 0.95  # of what differs
ROUNDING = 1e-6  # of a value: eight steps of float32


def in_words(logged_N: Float32s, again_N: Float32s, list_N: Int64s) -> str:
    """
    Args:
        list_N: equal for the items of one list.
    Returns:
        the first of these that holds for nearly all that differs; "" where none does.
    """
    differs_N = ~same(logged_N, again_N)
    if np.count_nonzero(differs_N) < LEAST:
        return ""
    return next(_found(logged_N, again_N, list_N, differs_N), "")


def _found(logged_N: Float32s, again_N: Float32s, list_N: Int64s, differs_N: Bools) -> Iterator[str]:
    logged_M = logged_N[differs_N].astype(np.float64)
    again_M = again_N[differs_N].astype(np.float64)
    if np.isnan(logged_M).mean() >= MOSTLY:
        yield "missing, where it has a value"
    elif np.isnan(again_M).mean() >= MOSTLY:
        value = _common(logged_M)
        yield "a value, where it is missing" if value is None else f"{value:g}, where it is missing"
    value = _common(logged_N[~np.isnan(logged_N)].astype(np.float64))
    if value is not None and len(np.unique(again_M)) > 1:
        yield f"always {value:g}"
    if _is_moved(logged_N, again_N, list_N, differs_N):
        yield "the right values, at other items of the list"
    both_M = np.isfinite(logged_M) & np.isfinite(again_M)
    if both_M.mean() >= MOSTLY:
        yield from _of_numbers(logged_M[both_M], again_M[both_M])


def _of_numbers(logged_M: Float64s, again_M: Float64s) -> Iterator[str]:
    if (np.abs(logged_M - again_M) <= ROUNDING * np.abs(again_M)).mean() >= MOSTLY:
        yield "rounding: a few steps of float32, as sums in another order give"
    is_known_M = again_M != 0
    if is_known_M.mean() >= MOSTLY:
        factor = _common(logged_M[is_known_M] / again_M[is_known_M])
        if factor is not None and len(np.unique(again_M)) > 1:
            yield f"{factor:.6g} times what it should be"
    more = _common(logged_M - again_M)
    if more is not None and len(np.unique(again_M)) > 1:
        yield f"{more:+.6g} of what it should be"
    with np.errstate(over="ignore"):  # beyond what half precision can hold
        rounded = {"half precision": again_M.astype(np.float16).astype(np.float64)}
    rounded |= {f"rounded to {places} places": again_M.round(places) for places in range(5)}
    rounded["cut to whole numbers"] = np.trunc(again_M)
    for words, values_M in rounded.items():
        if np.isclose(logged_M, values_M, rtol=1e-6, atol=0).mean() >= MOSTLY:
            yield words


def _common(values_M: Float64s) -> float | None:
    """The value that nearly all are, as exactly as float32 tells; None: there is none."""
    if not len(values_M):
        return None
    middle = float(np.median(values_M))
    near_M = np.abs(values_M - middle) <= 1e-5 * max(abs(middle), 1e-6)
    return middle if near_M.mean() >= MOSTLY else None


def _is_moved(logged_N: Float32s, again_N: Float32s, list_N: Int64s, differs_N: Bools) -> bool:
    """Whether the lists that differ hold the same values, in another order."""
    moved_N = np.isin(list_N, list_N[differs_N])
    lists_M = list_N[moved_N]
    one_M, other_M = (
        values_N[moved_N][np.lexsort((values_N[moved_N], lists_M))] for values_N in (logged_N, again_N)
    )
    return bool(same(one_M, other_M).mean() >= MOSTLY)
