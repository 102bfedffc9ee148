"""Popularity: everyone gets the items with the most interactions.

The first baseline of every table. State: the number of training interactions of each item, or the exact sum
of their weights as given: it depends on no order, and equal sums are ties.

Shapes: B batch, I catalogue, N interactions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recray.batch import QueryBatch
from recray.ops.whole_parts import whole_parts
from recray.schema import DataError, FeatureSchema


@dataclass(frozen=True, kw_only=True)
class PopularityConfig:
    """Nothing to choose."""


class Popularity(nn.Module):
    """Retriever and WholeLearner (``recray.contract``)."""

    counts_I: Tensor  # float64

    def __init__(self, config: PopularityConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.register_buffer("counts_I", torch.zeros(schema.num_items, dtype=torch.float64))

    def learn(self, user_ids_N: Tensor, item_ids_N: Tensor, weights_N: Tensor | None = None) -> None:
        """Counts every interaction, a user's repeats included, or adds up their weights.

        Raises:
            DataError: an item id outside the catalogue.
        """
        num_items = len(self.counts_I)
        lowest, highest = (int(v) for v in item_ids_N.aminmax()) if len(item_ids_N) else (0, 0)
        if lowest < 0 or highest >= num_items:
            raise DataError(f"item ids must be in 0..{num_items - 1}, got {lowest}..{highest}")
        item_ids_N = item_ids_N.cpu()
        if weights_N is None:
            self.counts_I.copy_(torch.bincount(item_ids_N, minlength=num_items))
            return
        parts_N, parts_of_one = whole_parts(weights_N.cpu().numpy())
        sums_I = torch.bincount(item_ids_N, torch.from_numpy(parts_N), minlength=num_items)
        self.counts_I.copy_(sums_I / parts_of_one)

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI: the counts, float32, the same for everyone."""
        return self.counts_I.float().repeat(len(queries.user_ids_B), 1)


MODEL = Popularity
