"""Vectors of all users and items that are computed over a graph while training, and served without one.

Shapes: B queries, D width, U users, I items, N events of their histories.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recray.batch import QueryBatch
from recray.models.side_features import unknown_last
from recray.schema import FeatureSchema


class KeptVectors(nn.Module):
    """A ``VectorRetriever`` (``recray.contract``) of what a model puts into ``user_UD`` and ``item_ID``.

    They are part of its state dict.
    """

    user_UD: Tensor
    item_ID: Tensor

    def __init__(self, schema: FeatureSchema, dim: int) -> None:
        super().__init__()
        self.register_buffer("user_UD", torch.zeros(schema.num_users, dim))
        self.register_buffer("item_ID", torch.zeros(schema.num_items, dim))

    @torch.inference_mode()
    def item_vectors(self) -> Tensor:
        """item_ID."""
        return self.item_ID

    @torch.inference_mode()
    def query_vectors(self, queries: QueryBatch) -> Tensor:
        """query_BD: the user's; for unknown users (id -1) the mean of their history's item vectors, at unit
        length."""
        known_B = queries.user_ids_B >= 0
        query_BD = self.user_UD[queries.user_ids_B.clamp(min=0)]
        history_ND = self.item_ID[queries.history.values_N]
        sum_BD = torch.zeros_like(query_BD).index_add_(0, queries.history.rows_N(), history_ND)
        return torch.where(known_B[:, None], query_BD, F.normalize(sum_BD, dim=-1))

    @torch.inference_mode()
    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI: inner products."""
        return unknown_last(self.query_vectors(queries) @ self.item_ID.T, self.item_ID)
