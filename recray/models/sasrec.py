"""SASRec: a causal transformer over what a user did.

Kang & McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, https://arxiv.org/abs/1808.09781.
Trained on all positions by cross-entropy over all items (Klenitskiy & Vasilev, RecSys 2023,
https://arxiv.org/abs/2309.07602) or by gBCE (Petrov & Macdonald, RecSys 2023,
https://arxiv.org/abs/2308.07192). The layers differ from the paper's: normalised before, not after,
and positions turn queries and keys (rotary) instead of being added.

Shapes: N events end to end, D width.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from recray.config import ConfigError
from recray.models.id_tables import Tables
from recray.models.next_item import Events, NextItemLoss, NextItemModel
from recray.models.transformer import EncoderLayer, Rotary
from recray.ops.jagged_attention import group_causal
from recray.schema import FeatureSchema


@dataclass(frozen=True, kw_only=True)
class SASRecConfig:
    """The transformer and its loss."""

    dim: int = 64
    """Width of the layers and of the item vectors."""
    num_heads: int = 2
    """Attention heads."""
    num_layers: int = 2
    """Transformer layers."""
    hidden_dim: int = 256
    """Width of each layer's MLP."""
    dropout: float = 0.2
    """Of embeddings and of what each layer adds."""
    max_items: int = 50
    """Events that a query is answered from, the latest ones."""
    side_features: bool = False
    """Read genres, text and other columns of the items beside their ids, where the data set has them."""
    loss: NextItemLoss = field(default_factory=NextItemLoss)

    def __post_init__(self) -> None:
        if min(self.num_heads, self.num_layers, self.hidden_dim) < 1:
            raise ConfigError("num_heads, num_layers and hidden_dim must be at least 1")
        if self.dim % (2 * self.num_heads):
            raise ConfigError(f"dim must be a multiple of 2 x {self.num_heads} heads, got {self.dim}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


class SASRec(NextItemModel):
    """A ``VectorRetriever``; see ``recray.contract``."""

    def __init__(
        self,
        config: SASRecConfig,
        schema: FeatureSchema,
        tables: Tables = Tables(),  # noqa: B008 - frozen
    ) -> None:
        features = schema.item if config.side_features else ()
        super().__init__(schema.num_items, config.dim, config.max_items, config.loss, features, tables)
        self.rotary = Rotary(config.dim // config.num_heads)
        shape = (config.dim, config.num_heads, config.hidden_dim, config.dropout)
        self.layers = nn.ModuleList(EncoderLayer(*shape) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, events: Events) -> Tensor:
        """hidden_ND; when things happened does not count, only their order."""
        offsets_B = events.items.offsets_B
        position_N = events.items.places_N()
        angles, groups = self.rotary.angles(position_N), group_causal(offsets_B)
        x_ND = self.dropout(self.embed(events.items.values_N) * self.items.embedding_dim**0.5)
        for layer in self.layers:
            x_ND = layer(x_ND, angles, groups)
        hidden_ND: Tensor = self.norm(x_ND)
        return hidden_ND


MODEL = SASRec
