"""Two-tower and NCF: retrievers that learn from observed pairs of a user and an item."""

from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from recray.config import ConfigError
from recray.data.batches.pairs import PairBatches
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.models.ncf import NCFConfig
from recray.models.two_tower import TwoTowerConfig
from recray.recipes.id_tables import TablesRecipe, TablesRun, tables_for
from recray.recipes.retriever import DataSize, GradientRecipe, GradientRun
from recray.train.loop import LoopConfig
from recray.train.run import Presets


@dataclass(frozen=True, kw_only=True)
class TwoTowerRun(TablesRun):
    """Train a two-tower retriever."""

    model: TwoTowerConfig = field(default_factory=TwoTowerConfig)
    recency: float = 0.0
    """Newer interactions of a user count more: weight 0.1 + exp(-newer ones / recency); 0: all alike. Off
    where what is held out does not come later."""


@dataclass(frozen=True, kw_only=True)
class NCFRun(GradientRun):
    """Train NeuMF."""

    model: NCFConfig = field(default_factory=NCFConfig)
    negatives: int = 8
    """Items drawn for each observed pair that its user has nothing to do with in the training part."""
    recency: float = 0.0
    """Newer interactions of a user count more: weight 0.1 + exp(-newer ones / recency); 0: all alike. Off
    where what is held out does not come later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negatives < 1:
            raise ConfigError(f"negatives must be at least 1, got {self.negatives}")


class TwoTowerRecipe(TablesRecipe[TwoTowerRun]):
    """Pairs of the training part, the other items of the batch as negatives."""

    def open(self, run: TwoTowerRun) -> SplitData:
        return open_split(run.data)

    def reads_side_features(self, run: TwoTowerRun) -> bool:
        return run.model.side_features

    def batches(self, run: TwoTowerRun, data: SplitData) -> PairBatches:
        size = run.loop.batch_size_for(int(data.split.learnt_N.sum()))
        return PairBatches(
            data.dataset,
            data.split.train_N,
            size,
            run.seed,
            recency=data.recency(run.recency),
            weights_N=data.weights_N,
        )


class NCFRecipe(GradientRecipe[NCFRun, SplitData]):
    """Pairs of the training part, and for each some items that are drawn by the seed."""

    def open(self, run: NCFRun) -> SplitData:
        return open_split(run.data)

    def batches(self, run: NCFRun, data: SplitData) -> PairBatches:
        return PairBatches(
            data.dataset,
            data.split.train_N,
            run.loop.batch_size_for(int(data.split.learnt_N.sum())),
            run.seed,
            recency=data.recency(run.recency),
            negatives=run.negatives,
            weights_N=data.weights_N,
        )


class _Changes(TypedDict, total=False):
    loop: LoopConfig
    negatives: int


def _two_tower(dataset: str, loop: LoopConfig = LoopConfig()) -> TwoTowerRun:  # noqa: B008 - frozen
    return TwoTowerRun(data=DataConfig(dataset=dataset), recency=10.0, loop=loop)


def _ncf(dataset: str, **changes: Unpack[_Changes]) -> NCFRun:
    return NCFRun(data=DataConfig(dataset=dataset), recency=10.0, **changes)


def loop_for(size: DataSize) -> LoopConfig:
    """More data in larger batches and fewer passes."""
    if size.interactions > 5_000_000:
        return LoopConfig(batch_size=8192, epochs=10, patience=2)
    return LoopConfig(batch_size=4096) if size.interactions > 500_000 else LoopConfig()


def _two_tower_for(size: DataSize) -> TwoTowerRun:
    tables = tables_for(size.users + size.items)
    return TwoTowerRun(
        recency=10.0, loop=loop_for(size), validation_users=size.validation_users, tables=tables
    )


def _ncf_for(size: DataSize) -> NCFRun:
    drawn = 4 if size.interactions > 500_000 else 8
    return NCFRun(recency=10.0, loop=loop_for(size), negatives=drawn, validation_users=size.validation_users)


_TWO_TOWER: Presets[TwoTowerRun] = {
    "synthetic": ("generated data with a known truth; needs no download", _two_tower("synthetic")),
    "ml-100k": ("MovieLens 100K", _two_tower("ml-100k")),
    "ml-latest-small": ("MovieLens latest-small", _two_tower("ml-latest-small")),
    "ml-1m": ("MovieLens 1M", _two_tower("ml-1m", LoopConfig(batch_size=4096))),
}
_NCF: Presets[NCFRun] = {
    "synthetic": ("generated data with a known truth; needs no download", _ncf("synthetic")),
    "ml-100k": ("MovieLens 100K", _ncf("ml-100k", loop=LoopConfig(epochs=25))),
    "ml-1m": ("MovieLens 1M", _ncf("ml-1m", loop=LoopConfig(epochs=12, patience=3), negatives=4)),
}

TWO_TOWER = TwoTowerRecipe(
    "two_tower", _TWO_TOWER, "in-batch softmax with logQ (Yi et al. 2019)", sized=_two_tower_for
)
NCF = NCFRecipe("ncf", _NCF, "NeuMF: factors and an MLP (He et al. 2017)", sized=_ncf_for)
