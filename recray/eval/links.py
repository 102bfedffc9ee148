"""Link prediction: are pairs that occur scored above pairs that do not?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recray.arrays import Int64s
from recray.eval.evaluate import Sum
from recray.schema import DataError

PairScores = Callable[[Tensor, Tensor], Tensor]  # (user_ids_N, item_ids_N), int64 -> scores_N
_MAX_ROUNDS = 200  # of drawing: enough while more than a tenth of all pairs is free


class Links(NamedTuple):
    """Pairs that occur, and as many that do not."""

    user_ids_N: Tensor  # int64
    item_ids_N: Tensor
    other_user_ids_N: Tensor  # int64, of the pairs that do not occur
    other_item_ids_N: Tensor


def draw_links(
    pairs_2N: Int64s,
    observed_2N: Int64s,
    num_users: int,
    num_items: int,
    *,
    limit: int = 100_000,
    seed: int = 0,
) -> Links:
    """Pairs and as many others drawn evenly from all pairs of a user and an item that are not observed.

    Args:
        pairs_2N: int64 [2, N], user and item of the pairs to measure; more than ``limit`` are sampled.
        observed_2N: int64 [2, N], all pairs that occur anywhere, in any part of the data.

    Raises:
        DataError: there are no pairs, or nearly every user has nearly every item, so there is nothing to set
            against them.
    """
    if not pairs_2N.shape[1]:
        raise DataError("there are no pairs to measure: choose another split, or more data")
    rng = np.random.default_rng(seed)
    if pairs_2N.shape[1] > limit:
        pairs_2N = pairs_2N[:, np.sort(rng.choice(pairs_2N.shape[1], limit, replace=False))]
    wanted = int(pairs_2N.shape[1])
    observed = np.unique(observed_2N[0] * num_items + observed_2N[1])
    free = np.empty(0, np.int64)
    for _ in range(_MAX_ROUNDS):
        drawn = rng.integers(0, num_users * num_items, size=wanted)
        free = np.concatenate([free, drawn[~np.isin(drawn, observed)]])[:wanted]
        if len(free) == wanted:
            break
    else:
        raise DataError(
            f"{len(observed)} of {num_users} x {num_items} pairs are observed: there are not enough others "
            "to measure links against"
        )
    ids = (pairs_2N[0], pairs_2N[1], free // num_items, free % num_items)
    return Links(*(torch.from_numpy(np.ascontiguousarray(values)) for values in ids))


def auc_sum(score: PairScores, links: Links, rank: int = 0, world_size: int = 1) -> Sum:
    """The area under the ROC curve as a mean over links, of which each rank takes its share.

    ``mean_n P(score of link n > score of another pair)``, ties one half: the Mann-Whitney form of the AUC
    (Hanley & McNeil, Radiology 1982).
    """
    count = len(links.user_ids_N)
    mine = slice(count * rank // world_size, count * (rank + 1) // world_size)
    with torch.inference_mode():
        found_N = score(links.user_ids_N[mine], links.item_ids_N[mine]).cpu()
        others_N = score(links.other_user_ids_N, links.other_item_ids_N).cpu().sort().values
    below_N = torch.searchsorted(others_N, found_N, right=False)
    not_above_N = torch.searchsorted(others_N, found_N, right=True)
    above = (below_N + not_above_N).double().sum() / (2 * max(len(others_N), 1))
    return Sum(float(above), len(found_N))
