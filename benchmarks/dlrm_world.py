"""What both sides of the DLRM benchmark train on: the same sizes, and batches drawn from the same seeds."""

from typing import NamedTuple

import torch
from torch import Tensor

NUM_TABLES, DIM, DENSE = 8, 32, 13
BOTTOM, TOP = (512, 256, DIM), (512, 256)
GLOBAL_BATCH, WARM_UP_STEPS = 2048, 20
FEATURES = tuple(f"t{i}" for i in range(NUM_TABLES))
LEARNING_RATE, EPS = 0.02, 1e-8


class Drawn(NamedTuple):
    """One worker's rows."""

    dense_BF: Tensor
    ids_FB: Tensor  # one id per feature and row
    labels_B: Tensor


def draw(step: int, rank: int, world_size: int, rows: int) -> Drawn:
    """A worker's share of a step's batch; ids are uniform, the worst case for caches."""
    size = GLOBAL_BATCH // world_size
    generator = torch.Generator().manual_seed(step * 1009 + rank)
    return Drawn(
        torch.rand(size, DENSE, generator=generator),
        torch.randint(rows, (NUM_TABLES, size), generator=generator),
        torch.randint(2, (size,), generator=generator).float(),
    )
