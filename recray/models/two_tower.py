"""Two-tower retrieval with in-batch sampled softmax and logQ correction.

Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, RecSys
2019, https://doi.org/10.1145/3298689.3346996. A tower maps an id and its side features to a unit
vector; the score of a pair is their inner product, so an index can search the item side.

Shapes: B batch, J distinct items of the batch, D embedding dim, I catalogue, N history items.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recray.batch import FeatureTables, PairBatch, QueryBatch
from recray.config import ConfigError
from recray.losses import pair_items, sampled_softmax
from recray.models.id_tables import IdTable, Tables
from recray.models.side_features import SideFeatures, unknown_last
from recray.schema import Feature, FeatureSchema


@dataclass(frozen=True, kw_only=True)
class TwoTowerConfig:
    """The towers and their loss."""

    embedding_dim: int = 64
    """Size of the vectors that the two towers meet in."""
    hidden_dims: tuple[int, ...] = ()
    """Widths of a residual MLP on top of each tower; empty: a sum of embeddings."""
    temperature: float = 0.1
    """Divides the cosine scores in the loss; smaller is sharper."""
    dropout: float = 0.3
    """Share of each summed embedding that is zeroed while training."""
    side_features: bool = True
    """Use genres, text and demographics where the data set has them."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}")
        if self.embedding_dim < 1:
            raise ConfigError(f"embedding_dim must be at least 1, got {self.embedding_dim}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


class Tower(SideFeatures):
    """ids_B -> unit vectors [B, D]: id embedding plus an embedding of each side feature.

    A row whose id is forgotten is shorter: about the mean of what it would be with an id of the others'
    length in any direction. As a unit vector it would stand for more than is known, and come first.
    """

    def __init__(
        self,
        ids: IdTable,
        features: tuple[Feature, ...],
        hidden_dims: tuple[int, ...],
        dropout: float,
    ) -> None:
        dim = ids.embedding_dim
        super().__init__(ids.num_embeddings, features, dim)
        self.ids = ids
        layers: list[nn.Module] = []
        for width_in, width_out in zip((dim, *hidden_dims), (*hidden_dims, dim), strict=True):
            layers += [nn.Linear(width_in, width_out), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1]) if hidden_dims else None
        self.dropout = nn.Dropout(dropout)
        self._initialise()

    def _initialise(self) -> None:
        self.ids.initialise()
        # Side features start small: they refine what the id says instead of drowning it.
        self.initialise(0.1 * self.ids.embedding_dim**-0.5)

    def forward(self, ids_B: Tensor, start: int = 0, total: int = 0) -> Tensor:
        """
        Args:
            start, total: where the rows stand among those of the global batch; dropout is drawn for all of
                these, so that it does not depend on the number of workers. 0: the rows are all.
        """
        id_BD = x_BD = self.ids(ids_B)
        for feature_BD in self.of(ids_B):
            x_BD = x_BD + feature_BD
        if self.training and total > len(x_BD):
            mask_BD = self.dropout(x_BD.new_ones(total, x_BD.shape[1]))
            x_BD = x_BD * mask_BD[start : start + len(x_BD)]
        else:
            x_BD = self.dropout(x_BD)
        if self.mlp is not None:
            x_BD = x_BD + self.mlp(x_BD) * x_BD.any(dim=-1, keepdim=True)
        unit_BD = F.normalize(x_BD, dim=-1)
        is_forgotten_B = ~id_BD.any(dim=-1)
        if self.training or not is_forgotten_B.any():
            return unit_BD
        id_PD = self.ids.all_rows()
        missing = id_PD[id_PD.any(dim=-1)].square().sum(dim=-1).mean()
        short_BD = x_BD / (x_BD.square().sum(dim=-1, keepdim=True) + missing).sqrt()
        return torch.where(is_forgotten_B[:, None], short_BD, unit_BD)


class TwoTower(nn.Module):
    """A ``VectorRetriever`` and ``Learner``; see ``recray.contract``.

    A worker scores its users against the items of the whole global batch: it trains the same model however
    many workers there are.
    """

    draws_for_all = True

    def __init__(
        self,
        config: TwoTowerConfig,
        schema: FeatureSchema,
        tables: Tables = Tables(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        user, item = (schema.user, schema.item) if config.side_features else ((), ())
        size = (config.embedding_dim, config.embedding_dim**-0.5)
        shape = (config.hidden_dims, config.dropout)
        self.user_tower = Tower(tables.make("users", schema.num_users, *size), user, *shape)
        self.item_tower = Tower(tables.make("items", schema.num_items, *size), item, *shape)
        self.temperature = config.temperature

    def set_side_features(self, tables: FeatureTables) -> None:
        """Fills the side features in; they are part of the state dict from then on."""
        self.user_tower.set_rows(tables.user)
        self.item_tower.set_rows(tables.item)

    def forget_items(self, item_ids: Tensor) -> None:
        """Leaves to these items what their side features say."""
        self.item_tower.ids.forget(item_ids)

    def hold(self, queries: QueryBatch) -> None:
        """Fetches what these queries and those without a user are answered from."""
        users, items = self.user_tower.ids, self.item_tower.ids
        users.hold(F.pad(queries.user_ids_B.clamp(min=0), (1, 0)).to(users.device))
        items.hold(items.all_ids())

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        items = pair_items(batch)
        start = batch.pool.start if batch.pool else 0
        user_BD = self.user_tower(batch.user_ids_B, start, batch.total)
        item_JD = self.item_tower(items.item_ids_J)
        weights = batch.weight_B, batch.weight_sum
        return {"loss": sampled_softmax(user_BD / self.temperature, item_JD, items, *weights)}

    @torch.inference_mode()
    def item_vectors(self) -> Tensor:
        """item_ID, unit length."""
        item_ID: Tensor = self.item_tower(self.item_tower.ids.all_ids())
        return item_ID

    @torch.inference_mode()
    def query_vectors(self, queries: QueryBatch) -> Tensor:
        """query_BD: the user tower; for unknown users (id -1) the mean of their history's item vectors."""
        known_B = queries.user_ids_B >= 0
        query_BD: Tensor = self.user_tower(queries.user_ids_B.clamp(min=0))
        if known_B.all():
            return query_BD
        history_ND = self.item_tower(queries.history.values_N)
        sum_BD = torch.zeros_like(query_BD).index_add_(0, queries.history.rows_N(), history_ND)
        return torch.where(known_B[:, None], query_BD, F.normalize(sum_BD, dim=-1))

    @torch.inference_mode()
    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI: cosines."""
        item_ID = self.item_vectors()
        return unknown_last(self.query_vectors(queries) @ item_ID.T, item_ID)


MODEL = TwoTower
