"""HSTU: attention that adds up what it finds instead of sharing it out, over items, places and times.

Zhai et al., Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
Recommendations, ICML 2024, https://arxiv.org/abs/2402.17152, section 3.2. With s = SiLU, a layer of x is

    U, V, Q, K = split(s(f1(norm(x))))                            (equation 1)
    A_ij V = s(Q_i·K_j + position_{i-j} + time_{b(i, j)}) / n V_j,  j up to i   (equation 2)
    y = x + f2(norm(A V) * U)                                     (equation 3)

for each head, n the length of the longest history: no softmax, so that how much there is counts. The biases
are learnt, one of each for all heads of a layer; b is floor(log(seconds) / 0.301), where the seconds go from
event j to the one that follows i, or to the request: what is asked for is asked at a time. That is the
authors' code (https://github.com/meta-recsys/generative-recommenders), whose absolute positions, unit vectors
and sampled softmax are left out here: the loss is that of all sequence models (``next_item``).

Shapes: N events end to end, B rows of a group, T positions, D width, H heads.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recray.config import ConfigError
from recray.models.id_tables import Tables
from recray.models.next_item import Events, NextItemLoss, NextItemModel
from recray.ops.jagged import from_padded, to_padded
from recray.ops.jagged_attention import Group, group_causal
from recray.schema import FeatureSchema

TIME_BUCKETS = 128  # and one for what is less than the second; the last one is open
BUCKET = 0.301  # of the natural logarithm of seconds


@dataclass(frozen=True, kw_only=True)
class HSTUConfig:
    """The layers and their loss."""

    dim: int = 64
    """Width of the layers and of the item vectors."""
    num_heads: int = 2
    """Heads of each layer."""
    num_layers: int = 2
    """Layers."""
    attention_dim: int = 32
    """Width of a head's queries and keys."""
    value_dim: int = 32
    """Width of a head's values and gates."""
    time_bias: bool = True
    """Attend by times as well as by items and places."""
    dropout: float = 0.2
    """Of embeddings and of what each layer adds."""
    max_items: int = 50
    """Events that a query is answered from, the latest ones."""
    side_features: bool = False
    """Read genres, text and other columns of the items beside their ids, where the data set has them."""
    loss: NextItemLoss = field(default_factory=NextItemLoss)

    def __post_init__(self) -> None:
        for name in ("num_heads", "num_layers", "attention_dim", "value_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


class Seen(NamedTuple):
    """Rows that are padded together, and how long before each moment each of their events was."""

    group: Group
    bucket_BTT: Tensor | None  # int64; None: times do not count


class Layer(nn.Module):
    """Equations 1 to 3."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        heads, attention_dim, value_dim = config.num_heads, config.attention_dim, config.value_dim
        self.num_heads, self.longest = heads, config.max_items
        self.sizes = (heads * value_dim, heads * value_dim, heads * attention_dim, heads * attention_dim)
        self.norm = nn.LayerNorm(config.dim)
        self.into = nn.Linear(config.dim, sum(self.sizes), bias=False)
        self.norm_attended = nn.LayerNorm(heads * value_dim)
        self.out = nn.Linear(heads * value_dim, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.position_T = nn.Parameter(torch.randn(config.max_items) * 0.02)
        self.time_S = nn.Parameter(torch.randn(TIME_BUCKETS + 1) * 0.02) if config.time_bias else None

    def forward(self, x_ND: Tensor, groups: list[Seen]) -> Tensor:
        gate_N, *parts = F.silu(self.into(self.norm(x_ND))).split(self.sizes, dim=-1)
        value_NHD, query_NHD, key_NHD = (part.unflatten(-1, (self.num_heads, -1)) for part in parts)
        attended = [self._attended(query_NHD, key_NHD, value_NHD, seen) for seen in groups]
        out_ND = self.out(self.dropout(self.norm_attended(torch.cat(attended).flatten(1)) * gate_N))
        summed_ND: Tensor = x_ND + out_ND
        return summed_ND

    def _attended(self, query_NHD: Tensor, key_NHD: Tensor, value_NHD: Tensor, seen: Seen) -> Tensor:
        """Of one group's events: [n, H, D]."""
        group, length = seen.group, seen.group.max_queries
        query, key, value = (
            to_padded(part[group.queries], group.query_offsets_B, length).transpose(1, 2)
            for part in (query_NHD, key_NHD, value_NHD)
        )
        place_T = torch.arange(length, device=query.device)
        back_TT = place_T[:, None] - place_T
        scores_BHTT = query @ key.transpose(2, 3) + self.position_T[back_TT.clamp(min=0)]
        if self.time_S is not None and seen.bucket_BTT is not None:
            scores_BHTT = scores_BHTT + F.embedding(seen.bucket_BTT, self.time_S[:, None])[:, None, :, :, 0]
        # Padding stands after a row's events, so that none of these sees any.
        weights_BHTT = F.silu(scores_BHTT).masked_fill(back_TT < 0, 0.0) / self.longest
        return from_padded((weights_BHTT @ value).transpose(1, 2), group.query_offsets_B)


class HSTU(NextItemModel):
    """A ``VectorRetriever``; see ``recray.contract``."""

    def __init__(
        self,
        config: HSTUConfig,
        schema: FeatureSchema,
        tables: Tables = Tables(),  # noqa: B008 - frozen
    ) -> None:
        features = schema.item if config.side_features else ()
        super().__init__(schema.num_items, config.dim, config.max_items, config.loss, features, tables)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.reads_times = config.time_bias

    def encode(self, events: Events) -> Tensor:
        """hidden_ND: what is asked for after each event, when the next one comes."""
        groups = [Seen(group, self._buckets(events, group)) for group in group_causal(events.items.offsets_B)]
        x_ND = self.dropout(self.embed(events.items.values_N) * self.items.embedding_dim**0.5)
        for layer in self.layers:
            x_ND = layer(x_ND, groups)
        hidden_ND: Tensor = self.norm(x_ND)
        return hidden_ND

    def _buckets(self, events: Events, group: Group) -> Tensor | None:
        if not self.reads_times:
            return None
        next_N = events.waits_N[group.queries].double().cumsum(0)  # exact: seconds are whole
        began_N = next_N - events.waits_N[group.queries]
        next_BT, began_BT = (
            to_padded(moment_N, group.query_offsets_B, group.max_queries) for moment_N in (next_N, began_N)
        )
        ago_BTT = next_BT[:, :, None] - began_BT[:, None]
        return (ago_BTT.clamp(min=1.0).log() / BUCKET).long().clamp(max=TIME_BUCKETS)


MODEL = HSTU
