"""A retriever that reads times: after an item comes the next one, the sooner the surer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recray.batch import PairBatch, QueryBatch
from recray.schema import FeatureSchema

HALF_LIFE_S = 1_000.0


@dataclass(frozen=True, kw_only=True)
class SuccessorConfig:
    pass


class Successor(nn.Module):
    """Item i + 1 scores 2^(-age / half-life) for every i of the history; its vectors are one-hot."""

    reads_history = True

    def __init__(self, config: SuccessorConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.register_buffer("item_ID", torch.eye(schema.num_items).roll(1, dims=1).contiguous())

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        raise NotImplementedError

    def item_vectors(self) -> Tensor:
        return self.get_buffer("item_ID")

    def query_vectors(self, queries: QueryBatch) -> Tensor:
        rows_N = queries.history.rows_N()
        age_N = queries.request_times_B[rows_N] - queries.history_times_N
        assert (age_N >= 0).all(), "an event from after the request"
        next_ND = self.item_vectors().roll(-1, dims=0)[queries.history.values_N]
        query_BD = torch.zeros(len(queries.user_ids_B), next_ND.shape[1])
        return query_BD.index_add_(0, rows_N, next_ND * torch.exp2(-age_N / HALF_LIFE_S)[:, None])

    def score_items(self, queries: QueryBatch) -> Tensor:
        return self.query_vectors(queries) @ self.item_vectors().T


MODEL = Successor
