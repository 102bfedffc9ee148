"""One name for each kind of NumPy array: what is in it, not what it means (its own name says that); and a
long one some rows at a time."""

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt32s = npt.NDArray[np.uint32]
Int8s = npt.NDArray[np.int8]
UInt8s = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

BLOCK_ROWS = 4_000_000  # that are looked at together: a column may be a mapped file, larger than memory


def blocks(num_rows: int) -> list[slice]:
    """All rows, in runs of at most ``BLOCK_ROWS``."""
    return [slice(start, min(start + BLOCK_ROWS, num_rows)) for start in range(0, num_rows, BLOCK_ROWS)]


def narrow(numbers: Int64s) -> Int32s | Int64s:
    """Numbers from 0 on in half the memory, where they fit."""
    return numbers.astype(np.int32) if numbers.max(initial=0) < 2**31 else numbers
