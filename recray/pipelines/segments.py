"""Users of an evaluation by what they are like: how long their histories are, how popular what they took is.

A mean over all users hides who gains and who loses: a model that is better for those with long histories may
be worse for who has just come.

Shapes: N events, U users, I items.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from recray.arrays import Bools, Float64s, Int64s
from recray.data.events.dataset import Dataset
from recray.data.events.splits import Split

QUARTERS = (0.25, 0.5, 0.75)


class Segment(NamedTuple):
    """Some of the users that were asked."""

    name: str
    user_U: Bools


def segments(dataset: Dataset, split: Split, user_ids_U: Int64s) -> dict[str, list[Segment]]:
    """By kind, quarters of the users; fewer where many are alike.

    Args:
        user_ids_U: who was asked, as the data numbers them.
    """
    learnt_N = split.train_N | split.validation_N
    events_U = np.bincount(dataset.user_ids_N[learnt_N], minlength=dataset.num_users)[user_ids_U]
    counts_I = np.bincount(dataset.item_ids_N[split.train_N], minlength=dataset.num_items)
    found_N = split.test_N if split.relevant_N is None else split.test_N & split.relevant_N
    users_N, items_N = dataset.user_ids_N[found_N], dataset.item_ids_N[found_N]
    taken_U = np.bincount(users_N, minlength=dataset.num_users)
    popular_U = np.bincount(users_N, weights=counts_I[items_N], minlength=dataset.num_users)
    mean_U = popular_U[user_ids_U] / np.maximum(taken_U[user_ids_U], 1)
    kinds = {
        "events known of the user": events_U.astype(np.float64),
        "events, in training, of the items to find": mean_U.round(),
    }
    return {kind: list(_quarters(values_U)) for kind, values_U in kinds.items()}


def _quarters(values_U: Float64s) -> Iterator[Segment]:
    edges = np.unique(np.quantile(values_U, QUARTERS, method="lower"))
    place_U = np.searchsorted(edges, values_U)  # a value at an edge is below it
    for place in range(len(edges) + 1):
        user_U: Bools = place_U == place
        if user_U.any():
            low, high = values_U[user_U].min(), values_U[user_U].max()
            yield Segment(f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}", user_U)
