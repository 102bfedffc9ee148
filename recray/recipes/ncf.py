"""NCF: trained on observed pairs and unobserved items drawn by the seed."""

from dataclasses import dataclass, field
from typing import Any

from recray.config import ConfigError
from recray.contract import Retriever
from recray.data.batches.pairs import PairBatches
from recray.models.ncf import NCFConfig
from recray.recipes.retrieval import DataConfig, batch_size_for, new_model, prepared, validation
from recray.train.context import Context
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class NCFRun:
    """Train NeuMF."""

    data: DataConfig = field(default_factory=DataConfig)
    model: NCFConfig = field(default_factory=NCFConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    negatives: int = 8
    """Items drawn for each observed pair that its user has nothing to do with in the training part."""
    recency: float = 0.0
    """Newer interactions of a user count more: weight 0.1 + exp(-newer ones / recency); 0: all alike."""
    validation_users: int = 0
    """Users that validation looks at, drawn once by the seed; 0: all of them."""
    seed: int = 0
    """Of the initial weights, the order of the data, the negatives and dropout."""

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise ConfigError(f"negatives must be at least 1, got {self.negatives}")
        if self.validation_users < 0:
            raise ConfigError(f"validation_users must not be negative, got {self.validation_users}")


def _preset(dataset: str, **changes: Any) -> NCFRun:
    return NCFRun(data=DataConfig(dataset=dataset), recency=10.0, **changes)


_SMALL = LoopConfig(epochs=25)
_MEDIUM = LoopConfig(epochs=12, patience=3)
_LARGE = LoopConfig(batch_size=8192, epochs=10, patience=2)
NCF_PRESETS: dict[str, tuple[str, NCFRun]] = {
    "synthetic": ("generated data with a known truth; needs no download", _preset("synthetic")),
    "ml-100k": ("MovieLens 100K", _preset("ml-100k", loop=_SMALL)),
    "ml-1m": ("MovieLens 1M", _preset("ml-1m", loop=_MEDIUM, negatives=4)),
    "custom": ("your own events: --data.dataset FILE", _preset("events.csv")),
    "ml-25m": ("MovieLens 25M", _preset("ml-25m", loop=_LARGE, negatives=4, validation_users=5000)),
    "amazon-beauty": (
        "Amazon Reviews 2014, Beauty",
        _preset("amazon-beauty", validation_users=5000),
    ),
    "amazon-sports": (
        "Amazon Reviews 2014, Sports and Outdoors",
        _preset("amazon-sports", validation_users=5000),
    ),
}


def train_ncf(run: NCFRun, context: Context) -> Retriever:
    """Trains on the pairs of the training part, validates on the validation part; see ``train.loop.fit``."""
    data = prepared(run.data)
    model = new_model(run, data.dataset)
    batch_size = batch_size_for(run.loop, int(data.split.train_N.sum()))
    batches = PairBatches(
        data.dataset,
        data.split.train_N,
        batch_size,
        run.seed,
        recency=run.recency,
        negatives=run.negatives,
    )
    fit(
        model,
        batches,
        validation(data, context, users=run.validation_users, seed=run.seed),
        config=run.loop,
        optim=run.optim,
        context=context,
        seed=run.seed,
        data=f"{data.dataset.name} {data.dataset.hash[:12]}",
    )
    trained: Retriever = model
    return trained
