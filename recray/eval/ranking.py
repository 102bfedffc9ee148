"""Where scores stand in the full ranking of their query, ties included.

Every query's scores are sorted once. A value that occurs several times is a tie group: it starts
after ``above`` better candidates and spans ``tied`` positions, and any order within it is equally
likely. That is all the closed forms of McSherry & Najork (ECIR 2008) need to know.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recray.schema import DataError


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread for a while, and then on as many as before.

    The many small operations of a chunk gain nothing from more threads, and on a busy machine they
    lose: two threads that wait for each other took 22 s where one takes 0.5 s.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TieGroups(NamedTuple):
    """The tie group that each of X values per query belongs to."""

    above_BX: Tensor  # int64, candidates of the query that score strictly higher
    tied_BX: Tensor  # int64, candidates that score exactly the same, the value's own included


def sort_scores(scores_BI: Tensor, *, first_query: int = 0) -> Tensor:
    """Scores of each query in ascending order: sorted_BI on the CPU, same dtype (halves become float32).

    numpy's sort uses the processor's vector instructions: 32 times faster here than ``torch.sort``.

    Raises:
        DataError: a score is NaN; the message names the query (``first_query`` + row) and the item.
    """
    scores_BI = scores_BI.detach().cpu()
    if scores_BI.dtype not in (torch.float32, torch.float64):
        scores_BI = scores_BI.float()
    sorted_BI = torch.from_numpy(np.sort(scores_BI.numpy(), axis=1))
    nan_B = sorted_BI[:, -1].isnan()  # numpy sorts NaN behind everything else
    if nan_B.any():
        row = int(nan_B.nonzero()[0])
        item = int(scores_BI[row].isnan().nonzero()[0])
        raise DataError(
            f"the score of item {item} for query {first_query + row} is NaN:"
            " check the model's weights and loss"
        )
    return sorted_BI


def tie_groups(sorted_BI: Tensor, values_BX: Tensor) -> TieGroups:
    """Position and size of the tie group of any values, by binary search in the sorted scores."""
    values_BX = values_BX.contiguous()
    not_above_BX = torch.searchsorted(sorted_BI, values_BX, right=True)
    below_BX = torch.searchsorted(sorted_BI, values_BX, right=False)
    return TieGroups(sorted_BI.shape[1] - not_above_BX, not_above_BX - below_BX)


def best_scores(sorted_BI: Tensor, k: int) -> Tensor:
    """The k highest scores of each query, best first: values_BK."""
    return sorted_BI[:, sorted_BI.shape[1] - k :].flip(1)
