"""Item content in batches, the same for any number of workers."""

import numpy as np
import torch
from torch import Tensor

from recray.batch import ContentBatch


class ContentBatches:
    """Every item once per epoch; near-equal items meet in one batch, where ``spread`` can part them.

    The batches of an epoch are slices along a random direction of the content space, in random order: a
    pure function of (seed, epoch). Otherwise items of a batch have nothing in common.
    """

    def __init__(self, content_IF: Tensor, global_batch_size: int, seed: int) -> None:
        self.content_IF, self.global_batch_size, self.seed = content_IF, global_batch_size, seed
        self._epoch = -1
        self._items_I = self._slices = torch.empty(0, dtype=torch.int64)

    def num_steps(self) -> int:
        return -(-len(self.content_IF) // self.global_batch_size)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> ContentBatch:
        """This worker's part of a global batch; the batches of an epoch differ by one item at most."""
        if epoch != self._epoch:
            self._draw(epoch)
        slice_ = int(self._slices[step])
        start, stop = (len(self.content_IF) * s // self.num_steps() for s in (slice_, slice_ + 1))
        size = stop - start
        mine = self._items_I[start + size * rank // world_size : start + size * (rank + 1) // world_size]
        return ContentBatch(self.content_IF[mine], size)

    def _draw(self, epoch: int) -> None:
        random = np.random.default_rng([self.seed, epoch])
        direction_F = torch.from_numpy(random.standard_normal(self.content_IF.shape[1], dtype=np.float32))
        self._items_I = (self.content_IF @ direction_F).argsort(stable=True)
        self._slices, self._epoch = torch.from_numpy(random.permutation(self.num_steps())), epoch
