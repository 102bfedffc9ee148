"""Side features of users or items as vectors, and what a model says of an item that training never saw.

Such an item has zeros for its id (``forget``), so its vector is what its side features say. Where they say
nothing, the vector is zero: the model has nothing to go by, and ``unknown_last`` puts the item last.

Shapes: B ids, D width, I items.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recray.schema import Feature


class SideFeatures(nn.Module):
    """ids_B -> a vector [B, D] of each side feature: the mean of its ids' embeddings, or a linear map."""

    def __init__(self, num_rows: int, features: tuple[Feature, ...], dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict()
        for feature in features:
            ids = feature.kind == "ids"
            self.register_buffer(
                f"{feature.name}_rows",
                torch.zeros(num_rows, feature.width, dtype=torch.int64 if ids else torch.float32),
            )
            self.tables[feature.name] = (
                nn.EmbeddingBag(feature.size, dim, mode="mean", padding_idx=0)
                if ids
                else nn.Linear(feature.width, dim, bias=False)
            )

    def initialise(self, std: float) -> None:
        for weight in self.tables.parameters():
            nn.init.normal_(weight, std=std)

    def set_rows(self, rows: Mapping[str, Tensor]) -> None:
        """Fills the features in; they are part of the state dict from then on."""
        for name in self.tables:
            self.get_buffer(f"{name}_rows").copy_(rows[name])

    def of(self, ids_B: Tensor) -> list[Tensor]:
        """One [B, D] per feature, zero where a row does not have it."""
        return [table(self.get_buffer(f"{name}_rows")[ids_B]) for name, table in self.tables.items()]


def rows_of_feature(name: str) -> str | None:
    """The feature whose rows a buffer of that name in a model's state holds; None where it holds others."""
    leaf = name.rpartition(".")[2]
    return leaf.removesuffix("_rows") if leaf.endswith("_rows") else None


@torch.no_grad()
def forget(table: nn.Embedding, ids: Tensor) -> None:
    """Zeros in the place of weights that no event has taught anything."""
    table.weight[ids.to(table.weight.device)] = 0.0


def unknown_last(scores_BI: Tensor, item_ID: Tensor) -> Tensor:
    """The scores, those of items whose vector is zero below all others."""
    return unlearnt_last(scores_BI, item_ID.any(dim=1))


def unlearnt_last(scores_BI: Tensor, is_learnt_I: Tensor) -> Tensor:
    """The scores, those of items of which nothing was learnt below all others."""
    if is_learnt_I.all():
        return scores_BI
    return torch.where(is_learnt_I, scores_BI, scores_BI.amin(dim=1, keepdim=True) - 1.0)
