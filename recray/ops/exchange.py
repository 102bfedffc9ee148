"""All-to-all between the workers that hold embedding tables: requests for rows there, vectors back.

Shapes: N ids, G bags, W workers.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from recray.config import ConfigError
from recray.ops.embedding_plan import Placement
from recray.ops.rowwise_adagrad import Bags


def backend_of(placement: Placement) -> str:
    return "nccl" if placement.device.type == "cuda" else "gloo"


def own_group(placement: Placement) -> dist.ProcessGroup:
    """A new process group of all workers; each makes it at the same point of the run.

    Raises:
        ConfigError: there is no process group of so many workers.
    """
    if not dist.is_initialized() or dist.get_world_size() != placement.world_size:
        raise ConfigError(
            f"embedding tables on {placement.world_size} workers need a process group of as many: "
            "call torch.distributed.init_process_group first"
        )
    group: dist.ProcessGroup = dist.new_group(backend=backend_of(placement))
    return group


class Request(NamedTuple):
    """What one rank asks another for, stack by stack."""

    bags: Bags  # of all stacks
    num_bags: list[int]  # of each stack
    num_ids: list[int]  # of each stack

    def by_stack(self) -> list[Bags]:
        lengths_G, rows_N, weights_N = self.bags
        weights = (
            [None] * len(self.num_ids) if weights_N is None else weights_N.split_with_sizes(self.num_ids)
        )
        parts = zip(
            lengths_G.split_with_sizes(self.num_bags),
            rows_N.split_with_sizes(self.num_ids),
            weights,
            strict=True,
        )
        return [Bags(*part) for part in parts]


class Exchange:
    """Every rank makes one at the same point of the run and calls its methods in the same order.

    It has a process group of its own, so that DistributedDataParallel may average gradients meanwhile.
    """

    def __init__(self, placement: Placement) -> None:
        self.world_size, self.device = placement.world_size, placement.device
        self._group = own_group(placement) if placement.world_size > 1 else None

    def requests(self, asked: list[Request], num_stacks: int) -> list[Request]:
        """Sends ``asked[r]`` to rank r.

        Args:
            num_stacks: stacks on this rank.

        Returns:
            What each rank asks this one for.
        """
        if self.world_size == 1:
            return asked
        sizes = [[*r.num_bags, *r.num_ids, int(r.bags.weights_N is not None)] for r in asked]
        sent = torch.tensor(list(chain(*sizes)), dtype=torch.int64, device=self.device)
        width = 2 * num_stacks + 1
        theirs = self._all_to_all(sent, [len(s) for s in sizes], [width] * self.world_size)
        received = theirs.view(self.world_size, width).tolist()
        wire = torch.cat([part for request in asked for part in _to_wire(request.bags)])
        counts = [(sum(s[:num_stacks]), sum(s[num_stacks:-1]), s[-1]) for s in received]
        wire_sizes = [g + n * (1 + weighted) for g, n, weighted in counts]
        asked_sizes = [sum(map(len, _to_wire(request.bags))) for request in asked]
        got = self._all_to_all(wire, asked_sizes, wire_sizes).split_with_sizes(wire_sizes)
        any_weighted = any(weighted for _, _, weighted in counts)
        return [
            Request(_from_wire(buffer, g, n, any_weighted), s[:num_stacks], s[num_stacks:-1])
            for buffer, (g, n, _), s in zip(got, counts, received, strict=True)
        ]

    def vectors(self, sent: Tensor, sent_sizes: list[int], received_sizes: list[int]) -> Tensor:
        """Sends the r-th part of a flat float buffer to rank r; returns what came, rank by rank."""
        return sent if self.world_size == 1 else self._all_to_all(sent, sent_sizes, received_sizes)

    def _all_to_all(self, sent: Tensor, sent_sizes: list[int], received_sizes: list[int]) -> Tensor:
        received = sent.new_empty(sum(received_sizes))
        dist.all_to_all_single(received, sent, received_sizes, sent_sizes, group=self._group)
        return received


def _to_wire(bags: Bags) -> Sequence[Tensor]:
    """int32 tensors; the bits of float32 weights travel as int32 in the same message."""
    weights_N = bags.weights_N
    return (bags.lengths_G, bags.rows_N) + (() if weights_N is None else (weights_N.view(torch.int32),))


def _from_wire(buffer: Tensor, num_bags: int, num_ids: int, weighted: bool) -> Bags:
    lengths_G, rows_N, weights_N = buffer.tensor_split((num_bags, num_bags + num_ids))
    if not weighted:
        return Bags(lengths_G, rows_N)
    alike = len(weights_N) < num_ids  # this rank sent no weights, another did
    return Bags(
        lengths_G,
        rows_N,
        torch.ones_like(rows_N, dtype=torch.float32) if alike else weights_N.view(torch.float32),
    )
