"""LightGCN and BPR-MF: vectors learnt by order, spread over the graph of all training pairs or not at all."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from recray.config import ConfigError
from recray.data.batches.pairs import PairBatches
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.models.lightgcn import LightGCN, LightGCNConfig
from recray.recipes.graph import link_validation
from recray.recipes.pairs import loop_for
from recray.recipes.retriever import DataSize, GradientRecipe, GradientRun
from recray.train.context import Context
from recray.train.loop import LoopConfig, Sums
from recray.train.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class LightGCNRun(GradientRun):
    """Train a LightGCN; without layers, a matrix factorisation by BPR."""

    further_metrics = ("auc", "link_auc")
    model: LightGCNConfig = field(default_factory=LightGCNConfig)
    negatives: int = 1
    """Items drawn for each observed pair that its user has nothing to do with in the training part."""
    recency: float = 0.0
    """Newer interactions of a user count more: weight 0.1 + exp(-newer ones / recency); 0: all alike. Off
    where what is held out does not come later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negatives < 1:
            raise ConfigError(f"negatives must be at least 1, got {self.negatives}")


class LightGCNRecipe(GradientRecipe[LightGCNRun, SplitData]):
    """Pairs of the training part with drawn items; a message is whatever is learnt from, once.

    Before each validation the vectors of all users and items are computed; they are in the checkpoint.
    """

    def open(self, run: LightGCNRun) -> SplitData:
        if self.name != self.model_name and run.model.layers:
            raise ConfigError(
                f"{self.name!r} has no layers, got model.layers {run.model.layers}: take lightgcn"
            )
        return open_split(run.data)

    def new(self, run: LightGCNRun, data: SplitData, context: Context = Context()) -> nn.Module:  # noqa: B008 - frozen
        model = super().new(run, data, context)
        assert isinstance(model, LightGCN)
        learnt_N = data.split.learnt_N
        ids = data.dataset.user_ids_N[learnt_N], data.dataset.item_ids_N[learnt_N]
        model.set_graph(*map(torch.from_numpy, ids))
        return model

    def batches(self, run: LightGCNRun, data: SplitData) -> PairBatches:
        return PairBatches(
            data.dataset,
            data.split.train_N,
            run.loop.batch_size_for(int(data.split.learnt_N.sum())),
            run.seed,
            recency=data.recency(run.recency),
            negatives=run.negatives,
            weights_N=data.weights_N,
        )

    def validation(self, run: LightGCNRun, data: SplitData, context: Context) -> Callable[[nn.Module], Sums]:
        measures = [super().validation(run, data, context)]
        if data.split.validation_N.any():
            measures.append(link_validation(data, context))

        def validate(model: nn.Module) -> Sums:
            assert isinstance(model, LightGCN)
            model.refresh()
            return {name: total for measure in measures for name, total in measure(model).items()}

        return validate


_GCN, _MF = LightGCNConfig(), LightGCNConfig(layers=0, l2=0.02)
_OPTIM = OptimConfig(lr=5e-3)


def _preset(dataset: str, model: LightGCNConfig) -> LightGCNRun:
    data, loop = DataConfig(dataset=dataset), LoopConfig(epochs=60)
    return LightGCNRun(data=data, model=model, optim=_OPTIM, loop=loop, negatives=4, recency=10.0)


def _sized(model: LightGCNConfig) -> Callable[[DataSize], LightGCNRun]:
    return lambda size: LightGCNRun(
        model=model,
        optim=_OPTIM,
        loop=loop_for(size),
        validation_users=size.validation_users,
        negatives=4,
        recency=10.0,
    )


LIGHTGCN = LightGCNRecipe(
    "lightgcn",
    {
        "synthetic": ("generated data with a known truth", _preset("synthetic", _GCN)),
        "ml-100k": ("MovieLens 100K", _preset("ml-100k", _GCN)),
    },
    "vectors averaged over the graph, by BPR (He et al. 2020)",
    sized=_sized(_GCN),
)
BPR = LightGCNRecipe(
    "bpr",
    {
        "synthetic": ("generated data with a known truth", _preset("synthetic", _MF)),
        "ml-100k": ("MovieLens 100K", _preset("ml-100k", _MF)),
    },
    "matrix factorisation by the order of pairs (Rendle et al. 2009)",
    sized=_sized(_MF),
    kind="lightgcn",
)
