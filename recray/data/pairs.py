"""Observed (user, item) pairs in shuffled batches, the same for any number of workers."""

import numpy as np
import numpy.typing as npt
import torch

from recray.batch import PairBatch
from recray.config import ConfigError
from recray.data.dataset import Dataset


class PairBatches:
    """Every pair of the mask exactly once per epoch.

    The order of an epoch is a pure function of (seed, epoch), so a run resumes at any step without
    replaying, and workers agree without talking: each takes a contiguous slice of the global batch.
    """

    def __init__(
        self, dataset: Dataset, mask_N: npt.NDArray[np.bool_], global_batch_size: int, seed: int = 0
    ) -> None:
        if global_batch_size < 1:
            raise ConfigError(f"global_batch_size must be at least 1, got {global_batch_size}")
        self.global_batch_size = global_batch_size
        self.seed = seed
        self._user_ids_N = torch.from_numpy(dataset.user_ids_N[mask_N])
        self._item_ids_N = torch.from_numpy(dataset.item_ids_N[mask_N])
        counts_I = torch.bincount(self._item_ids_N, minlength=dataset.num_items)
        # log q of Yi et al. 2019, section 3: in-batch negatives arrive at the rate of their popularity.
        self.item_logq_I = torch.log(counts_I / max(len(self), 1)).float()
        self._epoch = -1
        self._order_N = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._user_ids_N)

    def num_steps(self) -> int:
        """Global batches in an epoch; the last one may be short."""
        return -(-len(self) // self.global_batch_size)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> PairBatch:
        """This worker's part of a global batch; empty where the last batch has fewer pairs than workers."""
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must be in 0..{world_size - 1}, got {rank}")
        if not 0 <= step < self.num_steps():
            raise ConfigError(f"step must be in 0..{self.num_steps() - 1}, got {step}")
        start = step * self.global_batch_size
        size = min(self.global_batch_size, len(self) - start)
        rows_B = self._order(epoch)[
            start + size * rank // world_size : start + size * (rank + 1) // world_size
        ]
        rows = torch.from_numpy(rows_B)
        item_ids_B = self._item_ids_N[rows]
        return PairBatch(self._user_ids_N[rows], item_ids_B, self.item_logq_I[item_ids_B])

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch != self._epoch:
            self._order_N = np.random.default_rng([self.seed, epoch]).permutation(len(self))
            self._epoch = epoch
        return self._order_N
