"""One name for each kind of NumPy array: what is in it, not what it means (its own name says that)."""

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
