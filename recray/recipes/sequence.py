"""Models of event sequences: SASRec and SS4Rec, trained on every position of what users did."""

import logging
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from recray.config import ConfigError
from recray.contract import Retriever
from recray.data.batches.sequences import SequenceBatches
from recray.data.events.dataset import Dataset
from recray.data.source import ABSOLUTE_TIMES, ROW_NUMBERS
from recray.models.next_item import NextItemLoss
from recray.models.sasrec import SASRecConfig
from recray.models.ss4rec import SS4RecConfig
from recray.recipes.retrieval import DataConfig, batch_size_for, new_model, prepared, validation
from recray.train.context import Context
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SequenceRun:
    """Train a model of event sequences."""

    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    validation_users: int = 0
    """Users that validation looks at, drawn once by the seed; 0: all of them."""
    seed: int = 0
    """Of the initial weights, the order of the data and dropout."""

    def __post_init__(self) -> None:
        if self.validation_users < 0:
            raise ConfigError(f"validation_users must not be negative, got {self.validation_users}")


@dataclass(frozen=True, kw_only=True)
class SASRecRun(SequenceRun):
    """Train a SASRec."""

    model: SASRecConfig = field(default_factory=SASRecConfig)


@dataclass(frozen=True, kw_only=True)
class SS4RecRun(SequenceRun):
    """Train an SS4Rec, or one of its two halves alone."""

    model: SS4RecConfig = field(default_factory=SS4RecConfig)


def _sasrec(dataset: str, max_items: int, loop: LoopConfig, **model: Any) -> SASRecRun:
    config = SASRecConfig(max_items=max_items, **model)
    return SASRecRun(data=DataConfig(dataset=dataset), model=config, optim=_OPTIM, loop=loop)


def _ss4rec(dataset: str, max_items: int, loop: LoopConfig, **model: Any) -> SS4RecRun:
    config = SS4RecConfig(max_items=max_items, **model)
    return SS4RecRun(data=DataConfig(dataset=dataset), model=config, optim=_OPTIM, loop=loop)


_OPTIM = OptimConfig(lr=2e-3, weight_decay=0.01, warmup_steps=100, schedule="linear", max_grad_norm=5.0)
_SMALL = LoopConfig(batch_size=64, epochs=15)
_MEDIUM = LoopConfig(batch_size=64, epochs=5)
_SPARSE = LoopConfig(batch_size=256, epochs=20)
_LARGE = LoopConfig(batch_size=512, epochs=10, precision="bfloat16")
_SAMPLED = NextItemLoss(kind="gbce", negatives=1024)  # scores of 59,047 items are too many for every position

SASREC_PRESETS: dict[str, tuple[str, SASRecRun]] = {
    "synthetic": ("generated data; needs no download", _sasrec("synthetic", 50, _SMALL)),
    "ml-100k": ("MovieLens 100K", _sasrec("ml-100k", 100, _SMALL, hidden_dim=128)),
    "ml-1m": ("MovieLens 1M", _sasrec("ml-1m", 200, _MEDIUM, dropout=0.1)),
    "ml-25m": ("MovieLens 25M, for a GPU", _sasrec("ml-25m", 200, _LARGE, dim=128, loss=_SAMPLED)),
    "amazon-beauty": ("Amazon Reviews 2014, Beauty", _sasrec("amazon-beauty", 50, _SPARSE, dropout=0.5)),
    "amazon-sports": ("Amazon Reviews 2014, Sports", _sasrec("amazon-sports", 50, _SPARSE, dropout=0.5)),
    "custom": ("your own events: --data.dataset FILE", _sasrec("events.csv", 50, _SMALL)),
}
SS4REC_PRESETS: dict[str, tuple[str, SS4RecRun]] = {
    "synthetic": ("generated data; needs no download", _ss4rec("synthetic", 100, _SMALL)),
    "ml-100k": ("MovieLens 100K", _ss4rec("ml-100k", 100, _SMALL)),
    "ml-1m": ("MovieLens 1M", _ss4rec("ml-1m", 200, _MEDIUM, dropout=0.1)),
    "ml-25m": ("MovieLens 25M, for a GPU", _ss4rec("ml-25m", 200, _LARGE, dim=128, loss=_SAMPLED)),
    "amazon-beauty": ("Amazon Reviews 2014, Beauty", _ss4rec("amazon-beauty", 50, _SPARSE, dropout=0.5)),
    "amazon-sports": ("Amazon Reviews 2014, Sports", _ss4rec("amazon-sports", 50, _SPARSE, dropout=0.5)),
    "custom": ("your own events: --data.dataset FILE", _ss4rec("events.csv", 100, _SMALL)),
}


def halves(parts: Literal["s5", "mamba"]) -> dict[str, tuple[str, SS4RecRun]]:
    """The presets of SS4Rec with one of its two parts: what each adds is the ablation."""
    return {
        name: (f"{text}; {parts} alone", replace(run, model=replace(run.model, parts=parts)))
        for name, (text, run) in SS4REC_PRESETS.items()
    }


def train_sequence(run: Any, context: Context) -> Retriever:
    """Trains on the sequences of the training part, validates on the validation part.

    A sequence that is longer than ``model.max_items`` is cut into windows that overlap by half.

    Raises:
        ConfigError: the model reads waits and the data has no times.
        DataError: no user has two events to train on, or the data set is not at hand.
    """
    data = prepared(run.data)
    _require_times(run.model, data.dataset)
    model = new_model(run, data.dataset)
    batches = SequenceBatches(
        data.dataset, data.split.train_N, run.loop.batch_size, run.model.max_items, seed=run.seed
    )
    batches.global_batch_size = batch_size_for(run.loop, len(batches), least=8)
    # A warm-up that fills a short run would never reach the rate that was asked for.
    warmup_steps = min(run.optim.warmup_steps, run.loop.epochs * batches.num_steps() // 10)
    fit(
        model,
        batches,
        validation(data, context, users=run.validation_users, seed=run.seed),
        config=run.loop,
        optim=replace(run.optim, warmup_steps=warmup_steps),
        context=context,
        seed=run.seed,
        data=f"{data.dataset.name} {data.dataset.hash[:12]}",
    )
    trained: Retriever = model
    return trained


def _require_times(model: Any, dataset: Dataset) -> None:
    """Waits mean something only where times do, in training as in requests."""
    times = dataset.manifest.options.get("times", ABSOLUTE_TIMES)
    if not isinstance(model, SS4RecConfig) or model.parts == "mamba" or model.interval == "none":
        return
    if times == ROW_NUMBERS:
        raise ConfigError(
            f"{dataset.name} has no times ({times} stand in), so there are no waits to read: "
            "set --model.interval none, or bring a column of times"
        )
    if times != ABSOLUTE_TIMES:
        log.warning("%s has %s: whoever asks must use that clock too", dataset.name, times)
