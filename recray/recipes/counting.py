"""Popularity and ItemKNN: retrievers that learn by counting, in one pass."""

from dataclasses import dataclass, field

import torch
from torch import nn

from recray import checkpoint
from recray.contract import CountLearner
from recray.data.events.split_data import SplitData
from recray.models.item_knn import ItemKNNConfig
from recray.models.popularity import PopularityConfig
from recray.recipes.retriever import RetrieverRun, SplitRecipe
from recray.train.context import Context


@dataclass(frozen=True, kw_only=True)
class PopularityRun(RetrieverRun):
    """Count how often each item was chosen."""

    model: PopularityConfig = field(default_factory=PopularityConfig)


@dataclass(frozen=True, kw_only=True)
class ItemKNNRun(RetrieverRun):
    """Count which items were chosen by the same users."""

    model: ItemKNNConfig = field(default_factory=ItemKNNConfig)


CountRun = PopularityRun | ItemKNNRun


class CountRecipe(SplitRecipe[CountRun]):
    """Counts the training part; nothing is drawn at random and nothing is gained by more workers."""

    distributed = False

    def fit(self, run: CountRun, data: SplitData, model: nn.Module, context: Context) -> None:
        assert isinstance(model, CountLearner)
        train_N, weights_N = data.split.learnt_N, data.weights_N
        user_ids_N, item_ids_N = data.dataset.user_ids_N[train_N], data.dataset.item_ids_N[train_N]
        model.count(
            torch.from_numpy(user_ids_N),
            torch.from_numpy(item_ids_N),
            None if weights_N is None else torch.from_numpy(weights_N[train_N]),
        )
        with checkpoint.saved(model) as folder:
            context.report({"epoch": 1.0}, folder)


POPULARITY = CountRecipe(
    "popularity",
    {"synthetic": ("most interactions first", PopularityRun())},
    "most interactions first",
    sized=lambda _: PopularityRun(),
)
ITEM_KNN = CountRecipe(
    "item_knn",
    {"synthetic": ("cosine neighbourhoods", ItemKNNRun())},
    "cosine item neighbourhoods (Deshpande 2004)",
    sized=lambda _: ItemKNNRun(),
)
