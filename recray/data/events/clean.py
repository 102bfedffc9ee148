"""From raw rows to tidy ones: ids to 0..N-1, exact duplicates out, k-core, order of time.

Plain NumPy on columns: 25 million rows fit in a few gigabytes, and nothing here keeps more than two
columns of temporaries alive.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from recray.arrays import Bools, Float32s, Int8s, Int32s, Int64s
from recray.schema import DataError


class IdIndex(NamedTuple):
    """Raw ids replaced by their rank among the distinct ones."""

    codes_N: Int32s
    raw_ids: pl.Series  # distinct, sorted: numbers by value, strings by code point


class Duplicates(NamedTuple):
    keep_N: Bools  # False on the second and later copies of an identical row
    num_exact: int  # rows that are copies of an earlier one
    num_repeated_pairs: int  # further rows with the user and item of an earlier one, copies included


class Rows(NamedTuple):
    """What became of the raw rows, and what can be seen only in their raw order."""

    read: int
    exact_duplicates: int
    repeated_pairs: int  # further rows of a (user, item) seen before, exact duplicates not counted
    dropped_by_k_core: int
    out_of_order: int  # rows that are earlier than the row before them


class InteractionArrays(NamedTuple):
    """The tidy columns, in order of time."""

    user_ids_N: Int32s
    item_ids_N: Int32s
    ratings_N: Float32s
    timestamps_N: Int64s  # seconds
    event_types_N: Int8s | None = None  # places in ``Tidy.event_types``
    parts_N: Int8s | None = None  # 0, 1, 2: given as training, validation, test


class Tidy(NamedTuple):
    events: InteractionArrays
    rows: Rows
    raw_users: pl.Series  # raw_id of each user, as text
    raw_items: pl.Series
    event_types: tuple[str, ...] = ()


def tidy_up(raw: pl.DataFrame, minimum: int, *, ticks_per_s: int = 1, has_clock: bool = True) -> Tidy:
    """All steps on the columns of ``RawTables.interactions``.

    Args:
        minimum: the k of the k-core, 0 for none.
        ticks_per_s: of the times: rows are ordered and copies recognised by ticks, seconds are kept.
        has_clock: False where times only number the rows: copies are then told by everything else.

    Raises:
        DataError: no interaction is left.
    """
    users, items = index_ids(raw["user"]), index_ids(raw["item"])
    ratings_N, timestamps_N = raw["rating"].to_numpy(), raw["timestamp"].to_numpy()
    types = index_ids(raw["event_type"]) if "event_type" in raw.columns else None
    parts_N = raw["part"].to_numpy() if "part" in raw.columns else None
    told_by = {"rating": ratings_N, "timestamp": timestamps_N if has_clock else None}
    told_by |= {"event_type": types.codes_N if types else None, "part": parts_N}
    duplicates = find_duplicates(
        users.codes_N, items.codes_N, {name: values for name, values in told_by.items() if values is not None}
    )
    rows = np.flatnonzero(duplicates.keep_N)
    if minimum > 1:
        rows = rows[k_core(users.codes_N[rows], items.codes_N[rows], minimum)]
    if len(rows) == 0:
        raise DataError(
            f"no interaction is left: not every user and item can have k_core={minimum}; take less"
        )
    counts = Rows(
        read=len(raw),
        exact_duplicates=duplicates.num_exact,
        repeated_pairs=duplicates.num_repeated_pairs - duplicates.num_exact,
        dropped_by_k_core=len(raw) - duplicates.num_exact - len(rows),
        out_of_order=int((timestamps_N[1:] < timestamps_N[:-1]).sum()),
    )
    rows = rows[time_order(timestamps_N[rows])]
    user_ids_N, raw_users = _renumber(users, rows)
    item_ids_N, raw_items = _renumber(items, rows)
    events = InteractionArrays(
        user_ids_N,
        item_ids_N,
        ratings_N[rows],
        timestamps_N[rows] // ticks_per_s if ticks_per_s > 1 else timestamps_N[rows],
        types.codes_N[rows].astype(np.int8) if types else None,
        None if parts_N is None else parts_N[rows],
    )
    return Tidy(events, counts, raw_users, raw_items, tuple(types.raw_ids) if types else ())


def _renumber(index: IdIndex, rows: Int64s) -> tuple[Int32s, pl.Series]:
    ids_N, kept = compact(index.codes_N[rows], len(index.raw_ids))
    return ids_N, index.raw_ids.gather(kept).cast(pl.String).alias("raw_id")


def index_ids(ids: pl.Series) -> IdIndex:
    """Maps each id to 0..n-1 in sorted order, so that the numbering does not depend on row order."""
    if ids.dtype == pl.String:
        raw_ids = ids.unique().sort()
        codes = ids.cast(pl.Enum(raw_ids)).to_physical()
        return IdIndex(codes.cast(pl.Int32).to_numpy(), raw_ids)
    values_N = ids.to_numpy()
    low, high = int(values_N.min()), int(values_N.max())
    if high - low >= 4 * len(values_N) + 1_000_000:
        distinct, inverse_N = np.unique(values_N, return_inverse=True)
        return IdIndex(inverse_N.astype(np.int32), pl.Series(distinct))
    # Dense enough for a table over all possible ids: no sort of N values.
    offsets_N = values_N - low if low else values_N
    codes_N, present = compact(offsets_N, high - low + 1)
    return IdIndex(codes_N, pl.Series(present.astype(np.int64) + low))


def compact(codes_N: npt.NDArray[np.integer], size: int) -> tuple[Int32s, Int64s]:
    """Codes below ``size`` renumbered without holes, and the old code of each new one."""
    present = np.zeros(size, dtype=bool)
    present[codes_N] = True
    new_code = np.cumsum(present, dtype=np.int32) - np.int32(1)
    return new_code[codes_N], np.flatnonzero(present)


def find_duplicates(
    user_codes_N: Int32s, item_codes_N: Int32s, told_by: Mapping[str, npt.NDArray[np.generic]]
) -> Duplicates:
    """Exact copies of earlier rows: those equal in the pair and in every column of ``told_by``.

    Only rows whose (user, item) repeats are compared in full.
    """
    num_rows = len(user_codes_N)
    keep_N = np.ones(num_rows, dtype=bool)
    pairs_N = user_codes_N.astype(np.int64) * (int(item_codes_N.max(initial=0)) + 1) + item_codes_N
    ordered_N = np.sort(pairs_N)
    repeated = ordered_N[1:][ordered_N[1:] == ordered_N[:-1]]
    del ordered_N
    if len(repeated) == 0:
        return Duplicates(keep_N, 0, 0)
    distinct = np.unique(repeated)
    slots_N = np.minimum(np.searchsorted(distinct, pairs_N), len(distinct) - 1)
    rows = np.flatnonzero(distinct[slots_N] == pairs_N)
    columns = {name: values_N[rows] for name, values_N in told_by.items()}
    suspects = pl.DataFrame({"row": rows, "pair": pairs_N[rows], **columns})
    firsts = suspects.unique(["pair", *told_by], keep="first", maintain_order=True)["row"]
    keep_N[rows] = False
    keep_N[firsts.to_numpy()] = True
    return Duplicates(keep_N, num_rows - int(keep_N.sum()), len(repeated))


def k_core(user_codes_N: Int32s, item_codes_N: Int32s, k: int) -> Bools:
    """Rows of the largest subset in which every user and every item has at least ``k`` rows."""
    keep_N = np.ones(len(user_codes_N), dtype=bool)
    while True:
        users_n, items_n = user_codes_N[keep_N], item_codes_N[keep_N]
        enough_n = (np.bincount(users_n) >= k)[users_n] & (np.bincount(items_n) >= k)[items_n]
        if enough_n.all():
            return keep_N
        keep_N[keep_N] = enough_n


def time_order(timestamps_N: Int64s) -> Int64s:
    """Row numbers in order of time; equal times keep the order of the rows."""
    num_rows = len(timestamps_N)
    if num_rows == 0 or (timestamps_N[1:] >= timestamps_N[:-1]).all():
        return np.arange(num_rows)
    row_bits = num_rows.bit_length()
    low = int(timestamps_N.min())
    if (int(timestamps_N.max()) - low).bit_length() + row_bits > 63:
        return np.argsort(timestamps_N, kind="stable")
    # Time and row number in one integer: a plain vectorised sort then is a stable one.
    keys_N = (timestamps_N - low) << row_bits
    keys_N |= np.arange(num_rows)
    keys_N.sort()
    keys_N &= (1 << row_bits) - 1
    return keys_N
