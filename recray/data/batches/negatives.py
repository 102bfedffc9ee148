"""Negatives, drawn by a seed: items that a user had nothing to do with, or some for a whole batch.

Shapes: U users, I items, N interactions, B rows of a batch, K negatives of each, or of all of them.
"""

from collections.abc import Sequence

import numpy as np
import torch

from recray.arrays import Int64s, narrow
from recray.batch import Negatives
from recray.config import ConfigError


class UnobservedItems:
    """For each user the items without an interaction, all equally likely.

    Exact without redrawing: the r-th such item of a user is r plus the number of observed items below it,
    which a binary search finds. Memory is one number per interaction.

    Args:
        user_ids_N, item_ids_N: the interactions, in any order; repeats count once.
    """

    counts_U: Int64s  # how many there are; nothing can be drawn for a user with 0

    def __init__(self, user_ids_N: Int64s, item_ids_N: Int64s, num_users: int, num_items: int) -> None:
        observed_N = np.unique(user_ids_N * num_items + item_ids_N)
        users_N, items_N = np.divmod(observed_N, num_items)
        counts_U = np.bincount(users_N, minlength=num_users)
        self._starts_U = np.cumsum(counts_U) - counts_U
        self.counts_U = num_items - counts_U
        # Unobserved items below each observed one: increasing within a user, and users lie apart.
        self._width = num_items + 1
        below_N = items_N - (np.arange(len(observed_N)) - self._starts_U[users_N])
        self._keys_N = users_N * self._width + below_N

    def draw(self, user_ids_B: Int64s, negatives: int, seed: Sequence[int]) -> Int64s:
        """item_ids_BK, with replacement; a pure function of its arguments.

        Args:
            negatives: K, how many for each user.
            seed: any non-negative numbers, such as (seed, epoch, step).
        """
        if negatives < 1:
            raise ConfigError(f"negatives must be at least 1, got {negatives}")
        users_BK = np.repeat(user_ids_B[:, None], negatives, axis=1)
        rank_BK = np.random.default_rng(seed).integers(self.counts_U[users_BK])
        passed_BK = np.searchsorted(self._keys_N, users_BK * self._width + rank_BK, side="right")
        ids_BK: Int64s = rank_BK + passed_BK - self._starts_U[users_BK]
        return ids_BK


class Draws:
    """Items that occur in the interactions, drawn for a whole batch: some by how often, the others evenly.

    Args:
        item_ids_N: the interactions.
        negatives: K, with replacement.
        popular: the share of the K that goes by how often.
    """

    def __init__(self, item_ids_N: Int64s, negatives: int, popular: float) -> None:
        self._item_ids_N, self._num_even = narrow(item_ids_N), round(negatives * (1 - popular))
        self._num_popular = negatives - self._num_even
        counts_I = np.bincount(item_ids_N)
        self._distinct = np.flatnonzero(counts_I)
        # Drawn in two ways, as likely as both together (the balance heuristic, Veach & Guibas 1995).
        by_count_I = counts_I * (self._num_popular / (negatives * len(item_ids_N)))
        even = self._num_even / (negatives * len(self._distinct))
        with np.errstate(divide="ignore"):  # what does not occur is not drawn
            self._logq_I = np.log(by_count_I + even * (counts_I > 0)).astype(np.float32)

    def __call__(self, seed: Sequence[int]) -> Negatives:
        """A pure function of any non-negative numbers, such as (seed, epoch, step)."""
        rng = np.random.default_rng(seed)
        popular = self._item_ids_N[rng.integers(len(self._item_ids_N), size=self._num_popular)]
        even = self._distinct[rng.integers(len(self._distinct), size=self._num_even)]
        ids_K = np.concatenate([popular, even])
        logq_K = torch.from_numpy(self._logq_I[ids_K])
        return Negatives(torch.from_numpy(ids_K), logq_K, len(self._distinct))
