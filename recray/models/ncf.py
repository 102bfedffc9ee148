"""Neural collaborative filtering: NeuMF, a matrix factorisation and an MLP that are scored together.

He et al., Neural Collaborative Filtering, WWW 2017, https://arxiv.org/abs/1708.05031, section 3.4:
``y = s(h [p_u * q_i ; MLP(p'_u, q'_i)])`` with embeddings of their own for the two parts (p, q and p', q'),
trained by binary cross-entropy on observed pairs and sampled unobserved ones (equation 7).

Shapes: B batch, K negatives, D width of an embedding, I catalogue, N history items.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recray.batch import PairBatch, QueryBatch
from recray.config import ConfigError
from recray.losses import weighted_mean
from recray.models.side_features import forget, unknown_last
from recray.schema import FeatureSchema

CHUNK_VALUES = 2**22  # hidden values that scoring a catalogue holds at a time


@dataclass(frozen=True, kw_only=True)
class NCFConfig:
    """The two parts of NeuMF."""

    factor_dim: int = 64
    """Width of the embeddings that are multiplied (GMF)."""
    mlp_dim: int = 64
    """Width of the embeddings that go into the MLP."""
    hidden_dims: tuple[int, ...] = (64, 32)
    """Widths of the MLP's layers, at least one; the last one meets the product of factors."""
    dropout: float = 0.3
    """Share of each embedding and hidden layer that is zeroed while training."""

    def __post_init__(self) -> None:
        if min(self.factor_dim, self.mlp_dim, *self.hidden_dims, len(self.hidden_dims)) < 1:
            raise ConfigError(
                "factor_dim, mlp_dim and at least one hidden width must be 1 or more, got "
                f"{self.factor_dim}, {self.mlp_dim} and {self.hidden_dims}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


class PairMLP(nn.Module):
    """Every combination of users and items given -> the last hidden layer.

    A linear layer of two vectors laid end to end is the sum of a linear layer of each. So the first layer
    is computed once per user and once per item, and no combination is ever laid end to end.
    """

    def __init__(self, dim: int, hidden_dims: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        first, *others = hidden_dims
        self.user = nn.Linear(dim, first)
        self.item = nn.Linear(dim, first, bias=False)
        layers: list[nn.Module] = [nn.ReLU(), nn.Dropout(dropout)]
        for width_in, width_out in zip(hidden_dims, others, strict=False):
            layers += [nn.Linear(width_in, width_out), nn.ReLU(), nn.Dropout(dropout)]
        self.above = nn.Sequential(*layers)

    def forward(self, user_BD: Tensor, item_BKD: Tensor) -> Tensor:
        """hidden_BKD; ``item_BKD`` may have a first dimension of 1, for the same items with every user."""
        hidden_BKD: Tensor = self.above(self.user(user_BD)[:, None] + self.item(item_BKD))
        return hidden_BKD


class NCF(nn.Module):
    """A ``Retriever`` and ``Learner``; see ``recray.contract``. Needs drawn negatives."""

    def __init__(self, config: NCFConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.user_factors = nn.Embedding(schema.num_users, config.factor_dim)
        self.item_factors = nn.Embedding(schema.num_items, config.factor_dim)
        self.user_inputs = nn.Embedding(schema.num_users, config.mlp_dim)
        self.item_inputs = nn.Embedding(schema.num_items, config.mlp_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.mlp = PairMLP(config.mlp_dim, config.hidden_dims, config.dropout)
        # One prediction layer over both parts, kept as its two halves.
        self.factor_weight = nn.Linear(config.factor_dim, 1)
        self.hidden_weight = nn.Linear(config.hidden_dims[-1], 1, bias=False)
        for table in (self.user_factors, self.item_factors, self.user_inputs, self.item_inputs):
            nn.init.normal_(table.weight, std=0.1)

    def forget_items(self, item_ids: Tensor) -> None:
        """What was learnt of these items as negatives alone."""
        forget(self.item_factors, item_ids)
        forget(self.item_inputs, item_ids)

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        """Binary cross-entropy of each observed pair and its negatives, all weighing alike within the row.

        Raises:
            ConfigError: the batch has no negatives.
        """
        if batch.negative_ids_BK is None:
            raise ConfigError(
                "NCF learns from negatives: batches need negative_ids_BK (PairBatches(negatives=4))"
            )
        item_ids_BK = torch.cat([batch.item_ids_B[:, None], batch.negative_ids_BK], dim=1)
        logits_BK = self._logits(batch.user_ids_B, item_ids_BK)
        labels_BK = torch.zeros_like(logits_BK)
        labels_BK[:, 0] = 1.0
        loss_B = F.binary_cross_entropy_with_logits(logits_BK, labels_BK, reduction="none").mean(dim=1)
        return {"loss": weighted_mean(loss_B, batch.weight_B, batch.weight_sum)}

    def _logits(self, user_ids_B: Tensor, item_ids_BK: Tensor) -> Tensor:
        """logits_BK of each user with its own items."""
        factor_BD = self.dropout(self.user_factors(user_ids_B)) * self.factor_weight.weight
        product_BK = torch.einsum("bd,bkd->bk", factor_BD, self.dropout(self.item_factors(item_ids_BK)))
        inputs_BD, inputs_BKD = self.user_inputs(user_ids_B), self.item_inputs(item_ids_BK)
        hidden_BKD = self.mlp(self.dropout(inputs_BD), self.dropout(inputs_BKD))
        logits_BK: Tensor = product_BK + self.factor_weight.bias + self.hidden_weight(hidden_BKD).squeeze(-1)
        return logits_BK

    @torch.inference_mode()
    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI: logits; for unknown users (id -1) the mean cosine of their history's items with each.

        Cosines are of an item's two embeddings laid end to end. An unknown user without a history scores
        every item 0.
        """
        known_B = queries.user_ids_B >= 0
        scores_BI = self._all_logits(queries.user_ids_B.clamp(min=0))
        if known_B.all():
            return unknown_last(scores_BI, self.item_factors.weight)
        item_ID = F.normalize(torch.cat([self.item_factors.weight, self.item_inputs.weight], dim=1), dim=1)
        history_ND = item_ID[queries.history.values_N]
        sum_BD = item_ID.new_zeros(len(known_B), item_ID.shape[1])
        sum_BD.index_add_(0, queries.history.rows_N(), history_ND)
        count_B = queries.history.lengths_B().clamp(min=1)
        scores_BI = torch.where(known_B[:, None], scores_BI, sum_BD / count_B[:, None] @ item_ID.T)
        return unknown_last(scores_BI, item_ID)

    def _all_logits(self, user_ids_B: Tensor) -> Tensor:
        """logits_BI, the hidden layers of as many users at a time as ``CHUNK_VALUES`` allows."""
        factor_BD = self.user_factors(user_ids_B) * self.factor_weight.weight
        logits_BI: Tensor = factor_BD @ self.item_factors.weight.T + self.factor_weight.bias
        inputs_BD, items_1ID = self.user_inputs(user_ids_B), self.item_inputs.weight[None]
        users = max(1, CHUNK_VALUES // (items_1ID.shape[1] * self.mlp.user.out_features))
        for start in range(0, len(user_ids_B), users):
            hidden_BID = self.mlp(inputs_BD[start : start + users], items_1ID)
            logits_BI[start : start + users] += self.hidden_weight(hidden_BID).squeeze(-1)
        return logits_BI


MODEL = NCF
