"""GRU4Rec: a recurrent network over what a user did.

Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016,
https://arxiv.org/abs/1511.06939, and Hidasi & Karatzoglou, Recurrent Neural Networks with Top-k Gains for
Session-based Recommendations, CIKM 2018, https://arxiv.org/abs/1706.03847, whose items have one embedding
for being read and being scored (section 5.5 there). For each event e of a row, from h = 0 on

    r, z = s(W_r e + U_r h), s(W_z e + U_z h),  n = tanh(W_n e + r * (U_n h)),  h ← (1 - z) * n + z * h

with biases. A linear map takes h to the width of the items, where it is normalised: beside item vectors that
start small the papers' bare h learns late. Trained on all positions by what all sequence models have
(``next_item``), in the place of the papers' ranking losses.

Shapes: N events end to end, B rows, D width, T positions of the longest row.
"""

import itertools
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recray.batch import Jagged
from recray.config import ConfigError
from recray.models.id_tables import Tables
from recray.models.next_item import Events, NextItemLoss, NextItemModel
from recray.schema import FeatureSchema


@dataclass(frozen=True, kw_only=True)
class GRU4RecConfig:
    """The recurrent layers and their loss."""

    dim: int = 64
    """Width of the item vectors."""
    hidden_dim: int = 128
    """Width of the recurrent state."""
    num_layers: int = 1
    """Recurrent layers, one above the other."""
    dropout: float = 0.2
    """Of embeddings, between layers, and of the state that is asked with."""
    max_items: int = 50
    """Events that a query is answered from, the latest ones."""
    side_features: bool = False
    """Read genres, text and other columns of the items beside their ids, where the data set has them."""
    loss: NextItemLoss = field(default_factory=NextItemLoss)

    def __post_init__(self) -> None:
        if min(self.hidden_dim, self.num_layers) < 1:
            raise ConfigError(
                f"hidden_dim and num_layers must be at least 1, got {self.hidden_dim} and {self.num_layers}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


class GRU4Rec(NextItemModel):
    """A ``VectorRetriever``; see ``recray.contract``."""

    def __init__(
        self,
        config: GRU4RecConfig,
        schema: FeatureSchema,
        tables: Tables = Tables(),  # noqa: B008 - frozen
    ) -> None:
        features = schema.item if config.side_features else ()
        super().__init__(schema.num_items, config.dim, config.max_items, config.loss, features, tables)
        # One at a time: what cuDNN drops out between its layers goes by no seed of a step.
        widths = [config.dim, *[config.hidden_dim] * config.num_layers]
        self.layers = nn.ModuleList(nn.GRU(*pair) for pair in itertools.pairwise(widths))
        self.out = nn.Linear(config.hidden_dim, config.dim, bias=False)
        self.norm = nn.RMSNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, events: Events) -> Tensor:
        """hidden_ND; when things happened does not count, only their order."""
        x_ND = self.embed(events.items.values_N) * self.items.embedding_dim**0.5
        order_N, rows_T = by_position(events.items)
        # Under autocast cuDNN takes float16 where bfloat16 is asked for, in which small gradients are lost.
        with torch.autocast(x_ND.device.type, enabled=False):
            first, *others = self.layers
            state_N = first(PackedSequence(self.dropout(x_ND.float())[order_N], rows_T))[0].data
            for layer in others:
                state_N = layer(PackedSequence(self.dropout(state_N), rows_T))[0].data
            hidden_ND: Tensor = self.norm(self.out(self.dropout(state_N[order_N.argsort()])))
        return hidden_ND


def by_position(rows: Jagged) -> tuple[Tensor, Tensor]:
    """The values in order of their place in the row, of the longest row first at each place, and how many
    rows have such a place (on the CPU): packed, nothing is padding."""
    place_N, lengths_B = rows.places_N(), rows.lengths_B()
    rank_B = lengths_B.argsort(descending=True, stable=True).argsort()
    order_N = (place_N * len(lengths_B) + rank_B[rows.rows_N()]).argsort()
    return order_N, torch.bincount(place_N).cpu()


MODEL = GRU4Rec
