"""Retrievers that learn from all interactions at once, without the training loop."""

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from recray import checkpoint
from recray.config import Config, override
from recray.contract import WholeLearner
from recray.data.events.split_data import DataConfig, SplitData
from recray.models.ease import EASEConfig
from recray.models.ials import IALSConfig
from recray.models.item_knn import ItemKNNConfig
from recray.models.popularity import PopularityConfig
from recray.models.slim import SLIMConfig
from recray.recipes.retriever import DataSize, RetrieverRun, SplitRecipe
from recray.train.context import Context


@dataclass(frozen=True, kw_only=True)
class PopularityRun(RetrieverRun):
    """Count how often each item was chosen."""

    model: PopularityConfig = field(default_factory=PopularityConfig)


@dataclass(frozen=True, kw_only=True)
class ItemKNNRun(RetrieverRun):
    """Count which items were chosen by the same users."""

    model: ItemKNNConfig = field(default_factory=ItemKNNConfig)


@dataclass(frozen=True, kw_only=True)
class EASERun(RetrieverRun):
    """Solve for what each item of a history says of all others."""

    model: EASEConfig = field(default_factory=EASEConfig)


@dataclass(frozen=True, kw_only=True)
class SLIMRun(RetrieverRun):
    """Solve for the few items of a history that say something of each other item."""

    model: SLIMConfig = field(default_factory=SLIMConfig)


@dataclass(frozen=True, kw_only=True)
class IALSRun(RetrieverRun):
    """Solve for the vectors of all users and of all items in turn."""

    model: IALSConfig = field(default_factory=IALSConfig)


WholeRun = PopularityRun | ItemKNNRun | EASERun | SLIMRun | IALSRun


@dataclass(frozen=True)
class WholeRecipe(SplitRecipe[WholeRun]):
    """Learns the training part at once; nothing is gained by more workers."""

    distributed = False

    starts_at_random: bool = False

    def draws(self, run: WholeRun) -> bool:
        return self.starts_at_random

    def model_config(self, run: WholeRun, data: SplitData) -> Config:
        """With the recency of histories that the data allows: the model itself knows of no split."""
        if isinstance(run, PopularityRun):
            return run.model
        return override(run.model, {"recency": data.recency(run.model.recency)})

    def fit(self, run: WholeRun, data: SplitData, model: nn.Module, context: Context) -> None:
        assert isinstance(model, WholeLearner)
        torch.manual_seed(run.seed)
        train_N, weights_N = data.split.learnt_N, data.weights_N
        user_ids_N, item_ids_N = data.dataset.user_ids_N[train_N], data.dataset.item_ids_N[train_N]
        model.learn(
            torch.from_numpy(user_ids_N),
            torch.from_numpy(item_ids_N),
            None if weights_N is None else torch.from_numpy(weights_N[train_N]),
        )
        with checkpoint.saved(model) as folder:
            context.report({"epoch": 1.0}, folder)


def _ease(dataset: str, l2: float, recency: float) -> EASERun:
    return EASERun(data=DataConfig(dataset=dataset), model=EASEConfig(l2=l2, recency=recency))


def _ease_for(size: DataSize) -> EASERun:
    """Items of few users need less regularisation, whose unit is a user."""
    sparse = size.interactions < 50 * size.items
    return EASERun(model=EASEConfig(l2=100.0 if sparse else 300.0, recency=5.0))


def _slim(dataset: str, l1: float, l2: float, recency: float) -> SLIMRun:
    return SLIMRun(data=DataConfig(dataset=dataset), model=SLIMConfig(l1=l1, l2=l2, recency=recency))


_SMALL = IALSConfig(unobserved_weight=0.3, l2=0.01, recency=5.0)
_SPARSE = replace(_SMALL, unobserved_weight=0.1)
_LARGE = IALSConfig(embedding_dim=128, unobserved_weight=1.0, l2=0.001, iterations=8, recency=5.0)


def _ials(dataset: str, model: IALSConfig = _SMALL) -> IALSRun:
    return IALSRun(data=DataConfig(dataset=dataset), model=model)


def _ials_for(size: DataSize) -> IALSRun:
    return IALSRun(model=_LARGE if size.interactions > 500_000 else _SMALL)


POPULARITY = WholeRecipe(
    "popularity",
    {"synthetic": ("most interactions first", PopularityRun())},
    "most interactions first",
    sized=lambda _: PopularityRun(),
)
ITEM_KNN = WholeRecipe(
    "item_knn",
    {"synthetic": ("cosine neighbourhoods", ItemKNNRun())},
    "cosine item neighbourhoods (Deshpande 2004)",
    sized=lambda _: ItemKNNRun(),
)
EASE = WholeRecipe(
    "ease",
    {
        "synthetic": (
            "generated data with a known truth; needs no download",
            _ease("synthetic", 300.0, 10.0),
        ),
        "ml-100k": ("MovieLens 100K", _ease("ml-100k", 300.0, 10.0)),
        "ml-latest-small": ("MovieLens latest-small", _ease("ml-latest-small", 100.0, 3.0)),
        "ml-1m": ("MovieLens 1M", _ease("ml-1m", 300.0, 5.0)),
    },
    "linear map from history to items, closed form (Steck 2019)",
    sized=_ease_for,
)
SLIM = WholeRecipe(
    "slim",
    {
        "synthetic": ("generated data with a known truth", _slim("synthetic", 3.0, 100.0, 10.0)),
        "ml-100k": ("MovieLens 100K", _slim("ml-100k", 3.0, 100.0, 10.0)),
    },
    "sparse linear map from history to items (Ning & Karypis 2011)",
    sized=lambda _: SLIMRun(model=SLIMConfig(recency=5.0)),
)
IALS = WholeRecipe(
    "ials",
    {
        "synthetic": ("generated data with a known truth", _ials("synthetic")),
        "ml-100k": ("MovieLens 100K", _ials("ml-100k")),
        "ml-latest-small": (
            "MovieLens latest-small",
            _ials("ml-latest-small", _SPARSE),
        ),
        "ml-1m": ("MovieLens 1M", _ials("ml-1m", _LARGE)),
    },
    "alternating least squares over all pairs (Hu 2008, Rendle 2022)",
    sized=_ials_for,
    starts_at_random=True,
)
