"""Observed (user, item) pairs in shuffled batches, the same for any number of workers."""

import logging

import numpy as np
import torch

from recray.arrays import Bools, Float32s, Int32s, Int64s, narrow
from recray.batch import PairBatch, Pool
from recray.config import ConfigError
from recray.data.batches.negatives import UnobservedItems
from recray.data.events.dataset import Dataset
from recray.ops.recency import recency_weights
from recray.schema import DataError

log = logging.getLogger(__name__)


class PairBatches:
    """Every pair of the mask exactly once per epoch, but for those that weigh nothing.

    The order of an epoch is a pure function of (seed, epoch), so a run resumes at any step without
    replaying, and workers agree without talking: each takes a contiguous slice of the global batch.

    Args:
        mask_N: the interactions to train on.
        global_batch_size: pairs per step over all workers, at most; the steps of an epoch are equally
            long to within one pair, so that none is too short to hold negatives.
        recency: weigh a pair by ``ops.recency`` among its user's in the mask. 0: all alike.
        negatives: items drawn for each pair, evenly, that its user has no interaction with in the mask; a
            pure function of (seed, epoch, step). 0: none. Users for whom there are none to draw have no
            pairs then, and the log names them.
        weights_N: of the data set's interactions, how much each counts; multiplies recency. None: all alike.

    Raises:
        DataError: there is no pair.
    """

    def __init__(
        self,
        dataset: Dataset,
        mask_N: Bools,
        global_batch_size: int,
        seed: int = 0,
        *,
        recency: float = 0.0,
        negatives: int = 0,
        weights_N: Float32s | None = None,
    ) -> None:
        if global_batch_size < 1:
            raise ConfigError(f"global_batch_size must be at least 1, got {global_batch_size}")
        if min(recency, negatives) < 0:
            raise ConfigError(f"recency and negatives must not be negative, got {recency} and {negatives}")
        self.global_batch_size = global_batch_size
        self.seed = seed
        # Columns of large data are pages that processes share: looked into batch by batch, not copied.
        self._user_ids_N, self._item_ids_N = dataset.user_ids_N, dataset.item_ids_N
        self._places_N = narrow(np.flatnonzero(mask_N))
        users_N, items_N = dataset.user_ids_N[mask_N], dataset.item_ids_N[mask_N]
        self._weight_N = torch.from_numpy(recency_weights(users_N, recency)) if recency else None
        self._negatives, self._unobserved = negatives, None
        taught_N = np.ones(len(users_N), dtype=bool)
        if weights_N is not None:
            weight_N = torch.from_numpy(weights_N[mask_N])
            self._weight_N = weight_N if self._weight_N is None else self._weight_N * weight_N
            taught_N = weights_N[mask_N] > 0
        if negatives:
            self._unobserved = UnobservedItems(users_N, items_N, dataset.num_users, dataset.num_items)
            taught_N &= _has_negatives(users_N, dataset, self._unobserved)
        self._rows = None if taught_N.all() else np.flatnonzero(taught_N)  # None: all of the mask
        if not len(self):
            raise DataError(f"{dataset.name}: no pair of a user and an item is left to learn from")
        counts_I = torch.bincount(torch.from_numpy(items_N[taught_N]), minlength=dataset.num_items)
        # log q of Yi et al. 2019, section 3: in-batch negatives arrive at the rate of their popularity.
        self.item_logq_I = torch.log(counts_I / len(self)).float()
        self._epoch = -1
        self._order_N: Int32s | Int64s = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.num_interactions if self._rows is None else len(self._rows)

    @property
    def num_interactions(self) -> int:
        """Of the mask, those that weigh nothing included."""
        return len(self._places_N)

    def num_steps(self) -> int:
        """Global batches in an epoch."""
        return -(-len(self) // self.global_batch_size)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> PairBatch:
        """This worker's part of a global batch; empty only where there are fewer pairs than workers."""
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must be in 0..{world_size - 1}, got {rank}")
        rows = torch.from_numpy(self.rows(epoch, step))
        places, size = self._places_N[rows.numpy()], len(rows)
        mine = slice(size * rank // world_size, size * (rank + 1) // world_size)
        user_ids_B, item_ids_B = (
            torch.from_numpy(ids_N[places[mine]]) for ids_N in (self._user_ids_N, self._item_ids_N)
        )
        weight_B = None if self._weight_N is None else self._weight_N[rows[mine]]
        negative_ids_BK = None
        if self._unobserved is not None:
            # Drawn for the whole batch, so that they do not depend on the number of workers.
            users_B, seed = self._user_ids_N[places], (self.seed, epoch, step)
            drawn_BK = self._unobserved.draw(users_B, self._negatives, seed)
            negative_ids_BK = torch.from_numpy(drawn_BK)[mine]
        weight_sum = None
        if self._weight_N is not None:
            weight_sum = float(self._weight_N[rows].sum())
            weight_sum = weight_sum if world_size == 1 else weight_sum * len(user_ids_B) / size
        pool = None
        if world_size > 1:
            ids_P = torch.from_numpy(self._item_ids_N[places])
            pool = Pool(ids_P, self.item_logq_I[ids_P], mine.start)
        logq_B = self.item_logq_I[item_ids_B]
        return PairBatch(user_ids_B, item_ids_B, logq_B, weight_B, size, negative_ids_BK, weight_sum, pool)

    def rows(self, epoch: int, step: int) -> Int64s:
        """Which interactions a global batch has, counted within the mask."""
        if not 0 <= step < self.num_steps():
            raise ConfigError(f"step must be in 0..{self.num_steps() - 1}, got {step}")
        start, stop = (len(self) * s // self.num_steps() for s in (step, step + 1))
        return self._order(epoch)[start:stop].astype(np.int64)

    def _order(self, epoch: int) -> Int32s | Int64s:
        if epoch != self._epoch:
            order_N = np.random.default_rng([self.seed, epoch]).permutation(len(self))
            self._order_N = narrow(order_N if self._rows is None else self._rows[order_N])
            self._epoch = epoch
        return self._order_N


def _has_negatives(users_N: Int64s, dataset: Dataset, unobserved: UnobservedItems) -> Bools:
    """Whether the user of each interaction lacks an item; says who does not."""
    if len(full := np.flatnonzero(unobserved.counts_U == 0)):
        names = ", ".join(map(repr, dataset.users["raw_id"].gather(full[:5]).to_list()))
        log.warning(
            "no negative can be drawn for who has interacted with all %d items: not learnt from are %s%s",
            *(dataset.num_items, names, f" and {len(full) - 5} more" if len(full) > 5 else ""),
        )
    has_N: Bools = unobserved.counts_U[users_N] > 0
    return has_N
