"""A prefix trie over semantic ids as compact arrays: what says which code may follow which prefix.

Sorted by their codes, items with a common prefix lie side by side, and so do the children of a node:
each level is two arrays in CSR form. Shapes: I items, L levels, N nodes of a level, C codes.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Level(NamedTuple):
    """The nodes of one depth, in lexicographic order of their prefixes."""

    codes_N: Tensor  # int64, last code of each node's prefix; of the root -1
    child_offsets_N: Tensor  # int64, N + 1 entries: children are nodes [offset, next offset) one level down
    item_offsets_N: Tensor  # int64, N + 1 entries: items are [offset, next offset) of ``item_ids_I``


class PrefixTrie(NamedTuple):
    """Level 0 is the root, level L holds complete semantic ids; the children of those are items."""

    levels: tuple[Level, ...]  # L + 1
    item_ids_I: Tensor  # int64, by code; items with equal codes by id
    positions_I: Tensor  # int64, where each item stands in ``item_ids_I``

    def node_of_items(self, depth: int) -> Tensor:
        """nodes_I: the node at this depth that each item (by id) lies under."""
        offsets_N = self.levels[depth].item_offsets_N
        return torch.searchsorted(offsets_N, self.positions_I, right=True) - 1

    def continuations(self, depth: int, num_codes: int) -> Tensor:
        """table_NC, bool: the codes that lead from each node of this depth to a node below."""
        level, below = self.levels[depth], self.levels[depth + 1]
        parent_N = torch.repeat_interleave(level.child_offsets_N.diff())
        table_NC = torch.zeros(len(level.codes_N), num_codes, dtype=torch.bool, device=parent_N.device)
        table_NC[parent_N, below.codes_N] = True
        return table_NC


def build_trie(codes_IL: Tensor) -> PrefixTrie:
    """The trie of all items. Any number of items may share one semantic id."""
    num_items, num_levels = codes_IL.shape
    order_I = torch.arange(num_items, device=codes_IL.device)
    for level in reversed(range(num_levels)):  # stable sorts, least significant code first
        order_I = order_I[torch.sort(codes_IL[order_I, level], stable=True).indices]
    sorted_IL = codes_IL[order_I]
    starts = [torch.zeros(1, dtype=torch.int64, device=codes_IL.device)]  # first item of each node, by level
    differs_I = torch.zeros(num_items, dtype=torch.bool, device=codes_IL.device)
    differs_I[:1] = True
    for level in range(num_levels):
        differs_I[1:] |= sorted_IL[1:, level] != sorted_IL[:-1, level]
        starts.append(differs_I.nonzero().squeeze(1))
    starts.append(torch.arange(num_items, device=codes_IL.device))
    end = torch.tensor([num_items], device=codes_IL.device)
    levels = []
    for depth in range(num_levels + 1):
        start_N, below = starts[depth], starts[depth + 1]
        item_offsets_N = torch.cat([start_N, end])
        code_N = sorted_IL[start_N, depth - 1] if depth else torch.full_like(start_N, -1)
        levels.append(Level(code_N, torch.searchsorted(below, item_offsets_N), item_offsets_N))
    positions_I = torch.empty_like(order_I)
    positions_I[order_I] = torch.arange(num_items, device=codes_IL.device)
    return PrefixTrie(tuple(levels), order_I, positions_I)
