"""Transformer layers over jagged rows: pre-norm, rotary positions, and a step-by-step form with a cache.

Vaswani et al., https://arxiv.org/abs/1706.03762; rotary positions: Su et al.,
https://arxiv.org/abs/2104.09864. Tokens of all rows lie end to end, so that no layer works on padding.
Shapes: N tokens, G targets, L their codes, B queries, W beams, S tokens of the longest row, D width, H heads.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recray.ops.jagged_attention import Group, attend

Angles = tuple[Tensor, Tensor]


class Rotary(nn.Module):
    """Turns pairs of channels by an angle that grows with the position, so that products see distances."""

    def __init__(self, head_dim: int, base: float = 10000.0) -> None:
        super().__init__()
        frequencies = base ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        self.register_buffer("frequencies_D", frequencies, persistent=False)

    def angles(self, positions: Tensor) -> Angles:
        """(cos, sin), shape of ``positions`` + [1, D / 2]: one for all heads."""
        angle = positions[..., None, None].float() * self.get_buffer("frequencies_D")
        return angle.cos(), angle.sin()


def turned(x: Tensor, angles: Angles) -> Tensor:
    """``x`` [..., H, D] turned by ``angles``."""
    cos, sin = (a.to(x.dtype) for a in angles)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Attention(nn.Module):
    """The projections around an attention: tokens [..., D] to heads [..., H, D / H] and back."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def queries(self, x: Tensor, angles: Angles) -> Tensor:
        return turned(self.query(x).unflatten(-1, (self.num_heads, -1)), angles)

    def keys_values(self, x: Tensor, angles: Angles) -> tuple[Tensor, Tensor]:
        key, value = self.key_value(x).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        return turned(key, angles), value

    def merge(self, attended: Tensor) -> Tensor:
        merged: Tensor = self.out(attended.flatten(-2))
        return merged


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden_dim, bias=False)
        self.contract = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.contract(F.gelu(self.expand(x)))
        return out


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and MLP over the tokens of all rows, laid end to end."""

    def __init__(self, dim: int, num_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.norm_mlp = nn.RMSNorm(dim)
        self.mlp = FeedForward(dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_ND: Tensor, angles: Angles, groups: list[Group]) -> Tensor:
        normed_ND = self.norm_attention(x_ND)
        q, (k, v) = self.attention.queries(normed_ND, angles), self.attention.keys_values(normed_ND, angles)
        x_ND = x_ND + self.dropout(self.attention.merge(attend(q, k, v, groups)))
        out_ND: Tensor = x_ND + self.dropout(self.mlp(self.norm_mlp(x_ND)))
        return out_ND


class DecoderLayer(nn.Module):
    """Pre-norm self-attention over a target's codes, attention to the history, and MLP."""

    def __init__(self, dim: int, num_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm_self = nn.RMSNorm(dim)
        self.self_attention = Attention(dim, num_heads)
        self.norm_cross = nn.RMSNorm(dim)
        self.cross_attention = Attention(dim, num_heads)
        self.norm_mlp = nn.RMSNorm(dim)
        self.mlp = FeedForward(dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x_GLD: Tensor, memory_ND: Tensor, angles: Angles, memory_angles: Angles, groups: list[Group]
    ) -> Tensor:
        """Every target's codes at once."""
        normed = self.norm_self(x_GLD)
        q, (k, v) = (
            self.self_attention.queries(normed, angles),
            self.self_attention.keys_values(normed, angles),
        )
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
        )
        x_GLD = x_GLD + self.dropout(self.self_attention.merge(attended.transpose(1, 2)))
        q = self.cross_attention.queries(self.norm_cross(x_GLD), angles)
        k, v = self.cross_attention.keys_values(memory_ND, memory_angles)
        attended = attend(q.flatten(0, 1), k, v, groups).view_as(q)
        x_GLD = x_GLD + self.dropout(self.cross_attention.merge(attended))
        out_GLD: Tensor = x_GLD + self.dropout(self.mlp(self.norm_mlp(x_GLD)))
        return out_GLD

    def step(self, x_BWD: Tensor, memory: "Memory", cache: "Cache", angles: Angles) -> Tensor:
        """One more code per beam, against the keys and values of what came before."""
        normed = self.norm_self(x_BWD)
        k, v = cache.append(*self.self_attention.keys_values(normed, angles))
        q_BWHD = self.self_attention.queries(normed, angles)
        attended = F.scaled_dot_product_attention(q_BWHD[..., None, :], k, v)
        x_BWD = x_BWD + self.self_attention.merge(attended.squeeze(-2))
        q_BWHD = self.cross_attention.queries(self.norm_cross(x_BWD), angles)
        attended = F.scaled_dot_product_attention(
            q_BWHD.transpose(1, 2), memory.keys, memory.values, attn_mask=memory.mask_B11S
        )
        x_BWD = x_BWD + self.cross_attention.merge(attended.transpose(1, 2))
        out_BWD: Tensor = x_BWD + self.mlp(self.norm_mlp(x_BWD))
        return out_BWD


class Memory(NamedTuple):
    """A history as one decoder layer sees it: shared by all beams of its query."""

    keys: Tensor  # [B, H, S, D / H]
    values: Tensor
    mask_B11S: Tensor


class Cache:
    """Keys and values of the codes so far, [B, W, H, codes, D / H], of one decoder layer."""

    def __init__(self) -> None:
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds one code [B, W, H, D / H]; returns all so far."""
        key, value = key[..., None, :], value[..., None, :]
        if self._keys is not None and self._values is not None:
            key, value = torch.cat([self._keys, key], -2), torch.cat([self._values, value], -2)
        self._keys, self._values = key, value
        return key, value

    def follow(self, parents_BW: Tensor) -> None:
        """Beams became children of other beams."""
        if self._keys is None or self._values is None:
            return
        rows = torch.arange(len(parents_BW), device=parents_BW.device)[:, None]
        self._keys, self._values = self._keys[rows, parents_BW], self._values[rows, parents_BW]
