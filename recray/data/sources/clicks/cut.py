"""Which rows of a table of clicks are for what: by time, by their order, or by chance."""

import logging
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Int8s, Int64s
from recray.data.sources.tables.stored_table import StoredTable
from recray.schema import DataError

log = logging.getLogger(__name__)
Split = Literal["auto", "time", "order", "random"]
SHARES = (0.8, 0.9)  # where validation and test begin


class Cut(NamedTuple):
    part_N: Int8s  # 0, 1, 2: training, validation, test
    split: str  # for protocol cards
    facts: dict[str, Any]


def cut(table: StoredTable, split: Split, times: pl.Series | None) -> Cut:
    """
    Args:
        times: of each row, whole numbers whose order is that of time; None: there are none.

    Raises:
        DataError: no times to split by, or too few different ones.
    """
    if split == "time" and times is None:
        raise DataError(f"{table.label}: no column of times to split by: name it with time=")
    if split == "order":
        made = Cut(_parts(np.arange(len(table))), "global-time(0.8,0.1,0.1)", {})
    elif split == "random" or times is None:
        if split == "auto":
            log.warning(
                "%s has no column of times: its rows are split by chance, which lets a model look into "
                "the future if they have an order; name the column with time=, or say split=order",
                table.label,
            )
        made = Cut(_parts(np.random.default_rng(0).permutation(len(table))), "random(0.8,0.1,0.1,seed=0)", {})
    else:
        made = Cut(_by_time(table, times), "global-time(0.8,0.1,0.1)", {})
    if times is not None:
        times_N = times.to_numpy()
        train, test = times_N[made.part_N == 0], times_N[made.part_N == 2]
        ends = train.max(initial=test.min(initial=0))
        made.facts["tests_before_training_ends"] = float((test < ends).mean())
    return made


def _parts(order_N: Int64s) -> Int8s:
    """The parts of rows in an order."""
    part_N = np.zeros(len(order_N), np.int8)
    for share in SHARES:
        part_N[order_N[round(share * len(order_N)) :]] += 1
    return part_N


def _by_time(table: StoredTable, times: pl.Series) -> Int8s:
    """Rows of one moment are never on both sides of a cut."""
    times_N = times.to_numpy()
    sorted_N = np.sort(times_N)
    starts = [sorted_N[round(share * len(sorted_N))] for share in SHARES]
    if not sorted_N[0] < starts[0] < starts[1]:
        raise DataError(
            f"{table.label}: {times.name} has too few different times to cut it 80/10/10: name another "
            "column with time=, or say split=order or split=random"
        )
    part_N: Int8s = sum((times_N >= start).astype(np.int8) for start in starts)
    return part_N
