"""Graph attention over users and items: what a node is, and what its neighbours say.

Brody, Alon & Yahav, How Attentive are Graph Attention Networks?, ICLR 2022,
https://arxiv.org/abs/2105.14491 (GATv2, equation 7), as PyTorch Geometric's ``GATv2Conv``, one for each
direction of an interaction. A node starts as a tower's vector (id and side features) and each layer adds
messages to it, weighed by what they say and how recent they are. Learns and serves like the two-tower.

Shapes: B pairs, J distinct items of the batch, D embedding dim, U users, I items, N messages.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recray.batch import EDGE_FEATURES, FeatureTables, GraphBatch, Hop
from recray.config import ConfigError
from recray.losses import batch_items, sampled_softmax
from recray.models.id_tables import Tables
from recray.models.kept_vectors import KeptVectors
from recray.models.two_tower import Tower
from recray.schema import FeatureSchema


@dataclass(frozen=True, kw_only=True)
class GATConfig:
    """Towers, layers of attention, and the loss."""

    embedding_dim: int = 64
    """Size of the vectors of users and items, in every layer."""
    layers: int = 1
    """Hops that a message can travel."""
    heads: int = 4
    """Attention heads of each layer; they share the dimension."""
    temperature: float = 0.1
    """Divides the cosine scores in the loss; smaller is sharper."""
    dropout: float = 0.3
    """Share of each node's summed embedding, and of each layer's messages, that is zeroed while training."""
    side_features: bool = True
    """Use genres, text and demographics where the data set has them."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}")
        for name in ("embedding_dim", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.embedding_dim % self.heads:
            raise ConfigError(f"heads {self.heads} must divide embedding_dim {self.embedding_dim}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


def _attention(dim: int, heads: int) -> nn.Module:
    """GATv2 between nodes of two kinds; PyTorch Geometric takes seconds to import, configs do without."""
    try:
        from torch_geometric.nn import GATv2Conv
    except ImportError as error:
        raise ConfigError(
            "GAT needs PyTorch Geometric, which is not installed: pip install 'recray[graph]'"
        ) from error
    conv: nn.Module = GATv2Conv(
        (dim, dim), dim // heads, heads=heads, edge_dim=EDGE_FEATURES, add_self_loops=False
    )
    return conv


class GraphAttention(nn.Module):
    """One layer: every node keeps what it is and adds what it hears."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.to_users, self.to_items = _attention(dim, heads), _attention(dim, heads)
        self.dropout = nn.Dropout(dropout)

    def forward(self, user_UD: Tensor, item_ID: Tensor, hop: Hop) -> tuple[Tensor, Tensor]:
        """Vectors of the hop's output users and items."""
        user_BD, item_JD = user_UD[hop.users_B], item_ID[hop.items_J]
        to_users, to_items = hop.to_users, hop.to_items
        heard_BD = self.to_users((item_ID, user_BD), to_users.edges_2N, to_users.edge_NF)
        heard_JD = self.to_items((user_UD, item_JD), to_items.edges_2N, to_items.edge_NF)
        return user_BD + self.dropout(heard_BD), item_JD + self.dropout(heard_JD)


class GAT(KeptVectors):
    """A ``VectorRetriever`` and a learner from ``GraphBatch``; see ``recray.contract``.

    It serves vectors that ``refresh`` has put into its state dict, so it needs no graph then.
    """

    def __init__(self, config: GATConfig, schema: FeatureSchema) -> None:
        super().__init__(schema, config.embedding_dim)
        user, item = (schema.user, schema.item) if config.side_features else ((), ())
        size, tables = (config.embedding_dim, config.embedding_dim**-0.5), Tables()
        self.user_tower = Tower(tables.make("users", schema.num_users, *size), user, (), config.dropout)
        self.item_tower = Tower(tables.make("items", schema.num_items, *size), item, (), config.dropout)
        self.layers = nn.ModuleList(
            GraphAttention(config.embedding_dim, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.temperature = config.temperature

    def set_side_features(self, tables: FeatureTables) -> None:
        """Fills the side features in; they are part of the state dict from then on."""
        self.user_tower.set_rows(tables.user)
        self.item_tower.set_rows(tables.item)

    def forget_items(self, item_ids: Tensor) -> None:
        """Leaves to these items what their side features say."""
        self.item_tower.ids.forget(item_ids)
        self._leave_out_forgotten()

    @torch.no_grad()
    def _leave_out_forgotten(self) -> None:
        """An item that nobody had to do with hears nobody, and what a layer adds to it is a constant: it
        stays what it starts from."""
        training = self.training
        self.eval()
        forgotten = (~self.item_tower.ids.all_rows().any(dim=1)).nonzero().flatten()
        self.item_ID[forgotten] = self.item_tower(forgotten)
        self.train(training)

    def loss(self, batch: GraphBatch) -> dict[str, Tensor]:
        """In-batch sampled softmax; every pair has its own view of its user, items have one each.

        Raises:
            ConfigError: the batch has messages for another number of layers.
        """
        if len(batch.hops) != len(self.layers):
            raise ConfigError(
                f"the batch has {len(batch.hops)} hops and the model {len(self.layers)} layers: "
                "give one fanout for each layer"
            )
        user, item = self.user_tower(batch.user_ids_U), self.item_tower(batch.item_ids_I)
        for layer, hop in zip(self.layers, batch.hops, strict=True):
            user, item = layer(user, item, hop)
        user_BD, item_JD = F.normalize(user, dim=-1), F.normalize(item, dim=-1)
        items = batch_items(batch.pairs.item_ids_B, batch.pairs.item_logq_B)
        weights = batch.pairs.weight_B, batch.pairs.weight_sum
        return {"loss": sampled_softmax(user_BD / self.temperature, item_JD, items, *weights)}

    @torch.no_grad()
    def refresh(self, graph: Iterable[Hop]) -> None:
        """Computes every user's and item's vector, layer by layer, and keeps them for serving.

        Args:
            graph: one layer's messages over the whole graph, in parts; gone through once per layer.
        """
        training = self.training
        self.eval()
        device = self.user_UD.device
        user_UD, item_ID = (
            tower(torch.arange(tower.ids.num_embeddings, device=device))
            for tower in (self.user_tower, self.item_tower)
        )
        for layer in self.layers:
            users, items = torch.empty_like(user_UD), torch.empty_like(item_ID)
            for part in graph:
                hop = part.to(device)
                users[hop.users_B], items[hop.items_J] = layer(user_UD, item_ID, hop)
            user_UD, item_ID = users, items
        self.user_UD.copy_(F.normalize(user_UD, dim=-1))
        self.item_ID.copy_(F.normalize(item_ID, dim=-1))
        self._leave_out_forgotten()
        self.train(training)


MODEL = GAT
