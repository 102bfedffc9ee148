"""Attention between jagged rows: rows of like length are padded together, so little is wasted.

Owns how rows are grouped; padding and masks are ``jagged``'s. Give it rows in order of their length.
Shapes: N queries, M keys, H heads, D head dim, B rows of a group, T queries and S keys of its longest row.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recray.ops.jagged import attention_mask, from_padded, to_padded

WASTE = 1.15  # padded size over real size that a group may have
MIN_ROWS = 8  # a group of fewer rows costs more than it saves


class Group(NamedTuple):
    """Rows that are padded together; offsets count from the group's first token."""

    queries: slice
    keys: slice
    query_offsets_B: Tensor
    key_offsets_B: Tensor
    max_queries: int
    max_keys: int
    mask_BTS: Tensor | None  # None: a query sees the keys up to its own place


def group_rows(
    query_offsets_B: Tensor,
    key_offsets_B: Tensor,
    query_limits_N: Tensor | None = None,
    key_positions_M: Tensor | None = None,
) -> list[Group]:
    """The groups of a batch: made once, used by every layer.

    Args:
        query_limits_N: a query sees the keys of its row up to this position; None: all of them.
        key_positions_M: position of each key.
    """
    groups = []
    for start, stop in _cuts(key_offsets_B.diff().tolist()):
        q_B, k_B = query_offsets_B[start : stop + 1], key_offsets_B[start : stop + 1]
        queries, keys = slice(int(q_B[0]), int(q_B[-1])), slice(int(k_B[0]), int(k_B[-1]))
        q_B, k_B = q_B - q_B[0], k_B - k_B[0]
        longest = int(q_B.diff().max()), int(k_B.diff().max())
        mask_BTS = attention_mask(
            q_B,
            k_B,
            None if query_limits_N is None else query_limits_N[queries],
            None if key_positions_M is None else key_positions_M[keys],
            *longest,
        )
        # Padding that sees nothing would be 0 / 0, and its gradient would reach the real rows.
        mask_BTS[:, :, 0] |= ~mask_BTS.any(-1)
        groups.append(Group(queries, keys, q_B, k_B, *longest, mask_BTS))
    return groups


def group_causal(offsets_B: Tensor) -> list[Group]:
    """The groups of causal self-attention. Padding stands last, so that no token sees any, without a mask."""
    groups = []
    for start, stop in _cuts(offsets_B.diff().tolist()):
        rows_B = offsets_B[start : stop + 1]
        tokens, longest = slice(int(rows_B[0]), int(rows_B[-1])), int(rows_B.diff().max())
        rows_B = rows_B - rows_B[0]
        groups.append(Group(tokens, tokens, rows_B, rows_B, longest, longest, None))
    return groups


def attend(q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, groups: list[Group]) -> Tensor:
    """Scaled dot-product attention within rows: attended_NHD."""
    out = []
    for group in groups:
        q_BTHD = to_padded(q_NHD[group.queries], group.query_offsets_B, group.max_queries)
        k_BSHD = to_padded(k_MHD[group.keys], group.key_offsets_B, group.max_keys)
        v_BSHD = to_padded(v_MHD[group.keys], group.key_offsets_B, group.max_keys)
        out_BHTD = F.scaled_dot_product_attention(
            q_BTHD.transpose(1, 2),
            k_BSHD.transpose(1, 2),
            v_BSHD.transpose(1, 2),
            attn_mask=None if group.mask_BTS is None else group.mask_BTS[:, None],
            is_causal=group.mask_BTS is None,
        )
        out.append(from_padded(out_BHTD.transpose(1, 2), group.query_offsets_B))
    return torch.cat(out)


def _cuts(lengths: list[int]) -> list[tuple[int, int]]:
    """Consecutive rows (start, stop) whose padding stays small."""
    cuts, start, longest, total = [], 0, 0, 0
    for row, length in enumerate(lengths):
        grown, size = max(longest, length), row - start
        if size >= MIN_ROWS and grown * (size + 1) > WASTE * (total + length):
            cuts.append((start, row))
            start, grown, total = row, length, 0
        longest, total = grown, total + length
    return [*cuts, (start, len(lengths))]
