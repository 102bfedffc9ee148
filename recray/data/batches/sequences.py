"""What each user did in order, in shuffled batches of windows, the same for any number of workers."""

from typing import NamedTuple

import numpy as np
import torch

from recray.arrays import Bools, Float32s, Float64s, Int64s, narrow
from recray.batch import Jagged, SequenceBatch
from recray.config import ConfigError
from recray.data.batches.negatives import Draws
from recray.data.events.dataset import Dataset
from recray.schema import DataError


class Windows(NamedTuple):
    """Rows ``start_W`` to ``stop_W`` of the events by user; those from ``first_W`` on are targets."""

    start_W: Int64s
    first_W: Int64s
    stop_W: Int64s

    def take(self, rows: Int64s) -> "Windows":
        return Windows(*(field[rows] for field in self))


class SequenceBatches:
    """Every event of the mask but each user's first is a target exactly once per epoch.

    The order of an epoch is a pure function of (seed, epoch), so a run resumes at any step without
    replaying, and workers agree without talking. Rows of a batch are in order of their length.

    Args:
        mask_N: the interactions to train on.
        global_batch_size: windows per step over all workers, at most.
        max_items: events that may precede a target in its window.
        every_position: a window has many targets, each with at least ``max_items // 2`` events before it
            where the user has that many; else one window per target, which is its last event.
        weights_N: of the data set's interactions, how much each counts as a target; what weighs nothing is
            history, and windows of nothing else are left out. None: all alike.
        negatives: items of the mask drawn for each global batch, with replacement; a pure function of
            (seed, epoch, step). 0: none.
        popular: the share of them that is drawn by how often items occur in the mask; the others evenly.

    Raises:
        DataError: no user has two events, or none of the second ones weighs anything.
    """

    def __init__(
        self,
        dataset: Dataset,
        mask_N: Bools,
        global_batch_size: int,
        max_items: int,
        *,
        every_position: bool = True,
        seed: int = 0,
        weights_N: Float32s | None = None,
        negatives: int = 0,
        popular: float = 0.0,
    ) -> None:
        if min(global_batch_size, max_items) < 1:
            raise ConfigError(
                f"batch size and max_items must be at least 1, got {global_batch_size} and {max_items}"
            )
        rows = np.flatnonzero(mask_N)
        rows = rows[np.argsort(dataset.user_ids_N[rows], kind="stable")]
        # Columns of large data are pages that processes share: looked into batch by batch, not copied.
        self._dataset, self._places_N = dataset, narrow(rows)
        cut = windows if every_position else one_target_windows
        counts_U = np.bincount(dataset.user_ids_N[rows], minlength=dataset.num_users)
        self._windows = cut(counts_U, max_items)
        self._weights_N = None if weights_N is None else weights_N[rows]
        if self._weights_N is not None:
            self._windows = self._windows.take(np.flatnonzero(_sums(self._weights_N, self._windows) > 0))
        if not len(self):
            raise DataError(f"{dataset.name}: no user has two events to train on: nothing follows anything")
        self.global_batch_size, self.seed = global_batch_size, seed
        self._draws = Draws(dataset.item_ids_N[rows], negatives, popular) if negatives else None
        self._epoch = -1
        self._order_W = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._windows.start_W)

    def num_steps(self) -> int:
        """Global batches in an epoch."""
        return -(-len(self) // self.global_batch_size)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> SequenceBatch:
        """This worker's part of a global batch.

        Raises:
            ConfigError: no such step, or there are fewer windows in it than parts.
        """
        if not 0 <= step < self.num_steps():
            raise ConfigError(f"step must be in 0..{self.num_steps() - 1}, got {step}")
        start, stop = (len(self) * s // self.num_steps() for s in (step, step + 1))
        chosen = self._windows.take(self._order(epoch)[start:stop])
        if len(chosen.start_W) < world_size:
            raise ConfigError(
                f"step {step} has {len(chosen.start_W)} sequences for {world_size} parts (workers times "
                "loop.accumulate): take fewer, or raise loop.batch_size"
            )
        total = int((chosen.stop_W - chosen.first_W).sum())
        by_length = np.argsort(chosen.stop_W - chosen.start_W, kind="stable")
        mine = chosen.take(by_length[rank::world_size])  # long and short ones alike for everyone
        lengths_B = mine.stop_W - mine.start_W
        offsets_B = np.concatenate([[0], np.cumsum(lengths_B)])
        within_N = np.arange(offsets_B[-1]) - np.repeat(offsets_B[:-1] - mine.start_W, lengths_B)
        places_N = self._places_N[within_N]
        weights_N = None
        if self._weights_N is not None:
            mean = _sums(self._weights_N, chosen).sum() / total
            weights_N = torch.from_numpy((self._weights_N[within_N] / mean).astype(np.float32))
        return SequenceBatch(
            torch.from_numpy(self._dataset.user_ids_N[self._places_N[mine.start_W]]),
            Jagged(torch.from_numpy(self._dataset.item_ids_N[places_N]), torch.from_numpy(offsets_B)),
            torch.from_numpy(self._dataset.timestamps_N[places_N]),
            torch.from_numpy(mine.first_W - mine.start_W),
            total,
            weights_N,
            self._draws((self.seed, epoch, step)) if self._draws else None,
        )

    def _order(self, epoch: int) -> Int64s:
        if epoch != self._epoch:
            self._order_W = np.random.default_rng([self.seed, epoch]).permutation(len(self))
            self._epoch = epoch
        return self._order_W


def _sums(weights_N: Float32s, windows: Windows) -> Float64s:
    """The weights of each window's targets, added up."""
    below_N = np.concatenate([[0.0], np.cumsum(weights_N, dtype=np.float64)])
    sums_W: Float64s = below_N[windows.stop_W] - below_N[windows.first_W]
    return sums_W


def windows(counts_U: Int64s, max_items: int) -> Windows:
    """Up to ``max_items`` + 1 events each, overlapping by half; all but a user's first are targets once."""
    overlap = max(1, max_items // 2)
    width, stride = max_items + 1, max_items + 1 - overlap
    ends_U = np.cumsum(counts_U)
    starts_U = ends_U - counts_U
    num_U = np.where(counts_U < 2, 0, 1 + np.maximum(0, -(-(counts_U - width) // stride)))
    user_W = np.repeat(np.arange(len(counts_U)), num_U)
    number_W = np.arange(len(user_W)) - np.repeat(np.cumsum(num_U) - num_U, num_U)
    start_W = starts_U[user_W] + number_W * stride
    first_W = start_W + np.where(number_W == 0, 1, overlap)
    return Windows(start_W, first_W, np.minimum(start_W + width, ends_U[user_W]))


def one_target_windows(counts_U: Int64s, max_items: int) -> Windows:
    """A window for each event but the first: up to ``max_items`` events, and then it."""
    target_W = np.setdiff1d(np.arange(counts_U.sum()), np.cumsum(counts_U) - counts_U)
    user_W = np.searchsorted(np.cumsum(counts_U), target_W, side="right")
    starts_U = np.cumsum(counts_U) - counts_U
    return Windows(np.maximum(target_W - max_items, starts_U[user_W]), target_W, target_W + 1)
