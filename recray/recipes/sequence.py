"""Models of event sequences, trained on every position of what users did."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypedDict, TypeVar

from recray.config import ConfigError
from recray.data.batches.sequences import SequenceBatches
from recray.data.events.dataset import Dataset
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.data.source import ABSOLUTE_TIMES, NO_CLOCK
from recray.models.gru4rec import GRU4RecConfig
from recray.models.hstu import HSTUConfig
from recray.models.id_tables import TablesConfig
from recray.models.next_item import NextItemLoss
from recray.models.sasrec import SASRecConfig
from recray.models.ss4rec import SS4RecConfig
from recray.recipes.id_tables import TablesRecipe, TablesRun, tables_for
from recray.recipes.retriever import DataSize
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig
from recray.train.run import Presets

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SASRecRun(TablesRun):
    """Train a SASRec."""

    model: SASRecConfig = field(default_factory=SASRecConfig)


@dataclass(frozen=True, kw_only=True)
class GRU4RecRun(TablesRun):
    """Train a GRU4Rec."""

    model: GRU4RecConfig = field(default_factory=GRU4RecConfig)


@dataclass(frozen=True, kw_only=True)
class HSTURun(TablesRun):
    """Train an HSTU."""

    model: HSTUConfig = field(default_factory=HSTUConfig)


@dataclass(frozen=True, kw_only=True)
class SS4RecRun(TablesRun):
    """Train an SS4Rec, or one of its two halves alone."""

    model: SS4RecConfig = field(default_factory=SS4RecConfig)


SequenceRun = TypeVar("SequenceRun", SASRecRun, GRU4RecRun, HSTURun, SS4RecRun)


class SequenceRecipe(TablesRecipe[SequenceRun]):
    """Sequences of the training part; one longer than ``model.max_items`` is cut into windows that overlap
    by half."""

    def open(self, run: SequenceRun) -> SplitData:
        data = open_split(run.data)
        if option := self.without_waits(run):
            _require_times(data.dataset, option)
        return data

    def without_waits(self, run: SequenceRun) -> str:
        """The option under which the model would read no waits; empty: it reads none."""
        return ""

    def reads_side_features(self, run: SequenceRun) -> bool:
        return run.model.side_features

    def batches(self, run: SequenceRun, data: SplitData) -> SequenceBatches:
        batches = SequenceBatches(
            data.dataset,
            data.split.train_N,
            run.loop.batch_size,
            run.model.max_items,
            seed=run.seed,
            weights_N=data.weights_N,
            negatives=run.model.loss.drawn,
            popular=run.model.loss.drawn_popular,
        )
        batches.global_batch_size = run.loop.batch_size_for(len(batches), least=8)
        return batches


class HSTURecipe(SequenceRecipe[HSTURun]):
    """Sequences with the times between their events."""

    def without_waits(self, run: HSTURun) -> str:
        return "--model.no-time-bias" if run.model.time_bias else ""


class TimedRecipe(SequenceRecipe[SS4RecRun]):
    """Sequences with the waits between their events."""

    def open(self, run: SS4RecRun) -> SplitData:
        if self.name != self.model_name and run.model.parts != self.name:
            raise ConfigError(f"{self.name!r} is {self.name} alone, got model.parts {run.model.parts!r}")
        return super().open(run)

    def without_waits(self, run: SS4RecRun) -> str:
        deaf = run.model.parts == "mamba" or run.model.interval == "none"
        return "" if deaf else "--model.interval none"


def _require_times(dataset: Dataset, option: str) -> None:
    """Waits mean something only where times do, in training as in requests.

    Raises:
        ConfigError: the data has no times.
    """
    times = dataset.manifest.options.get("times", ABSOLUTE_TIMES)
    if times in NO_CLOCK:
        raise ConfigError(
            f"{dataset.name} has no times ({times} stand in), so there are no waits to read: "
            f"set {option}, or bring a column of times"
        )
    if times != ABSOLUTE_TIMES:
        log.warning("%s has %s: whoever asks must use that clock too", dataset.name, times)


_OPTIM = OptimConfig(lr=2e-3, weight_decay=0.01, warmup_steps=100, schedule="linear", max_grad_norm=5.0)
_SMALL = LoopConfig(batch_size=64, epochs=15)
_MEDIUM = LoopConfig(batch_size=64, epochs=5)
_SPARSE = LoopConfig(batch_size=256, epochs=20)
_LARGE = LoopConfig(batch_size=512, epochs=10, precision="bfloat16")
_SAMPLED = NextItemLoss(kind="sampled_softmax", negatives=1024)
MANY_SCORES = 10**11  # an epoch of them takes longer than all else in it
SHORT = 15  # events of a user, on average: such data is learnt by heart without much dropout


def _loop_for(size: DataSize) -> LoopConfig:
    if size.interactions > 5_000_000:
        return _LARGE
    if size.interactions > 500_000:
        return _MEDIUM
    return _SPARSE if size.users > 10_000 else _SMALL


def _max_items_for(size: DataSize) -> int:
    """About the events of a user, on average: what lies further back tells little."""
    return next((longest for longest in (50, 100) if size.mean_length <= 1.2 * longest), 200)


def _loss_for(size: DataSize) -> NextItemLoss:
    return _SAMPLED if size.interactions * size.items > MANY_SCORES else NextItemLoss()


class _Sized(TypedDict):
    max_items: int
    loss: NextItemLoss
    dropout: float


class _Run(TypedDict):
    optim: OptimConfig
    loop: LoopConfig
    validation_users: int
    tables: TablesConfig


def _model_for(size: DataSize) -> _Sized:
    return {
        "max_items": _max_items_for(size),
        "loss": _loss_for(size),
        "dropout": 0.5 if size.mean_length < SHORT else 0.2,
    }


def _run_for(size: DataSize) -> _Run:
    return {
        "optim": _OPTIM,
        "loop": _loop_for(size),
        "validation_users": size.validation_users,
        "tables": tables_for(size.items),
    }


def _sasrec_for(size: DataSize) -> SASRecRun:
    return SASRecRun(model=SASRecConfig(**_model_for(size)), **_run_for(size))


def _gru4rec_for(size: DataSize) -> GRU4RecRun:
    return GRU4RecRun(model=GRU4RecConfig(**_model_for(size)), **_run_for(size))


def _hstu_for(size: DataSize) -> HSTURun:
    return HSTURun(model=HSTUConfig(**_model_for(size)), **_run_for(size))


def _ss4rec_for(size: DataSize) -> SS4RecRun:
    return SS4RecRun(model=SS4RecConfig(**_model_for(size)), **_run_for(size))


def _sasrec(dataset: str, model: SASRecConfig, loop: LoopConfig) -> SASRecRun:
    return SASRecRun(data=DataConfig(dataset=dataset), model=model, optim=_OPTIM, loop=loop)


def _gru4rec(dataset: str, model: GRU4RecConfig, loop: LoopConfig) -> GRU4RecRun:
    return GRU4RecRun(data=DataConfig(dataset=dataset), model=model, optim=_OPTIM, loop=loop)


def _hstu(dataset: str, model: HSTUConfig, loop: LoopConfig) -> HSTURun:
    return HSTURun(data=DataConfig(dataset=dataset), model=model, optim=_OPTIM, loop=loop)


def _ss4rec(dataset: str, model: SS4RecConfig, loop: LoopConfig) -> SS4RecRun:
    return SS4RecRun(data=DataConfig(dataset=dataset), model=model, optim=_OPTIM, loop=loop)


_GENERATED = "generated data; needs no download"
_SASREC: Presets[SASRecRun] = {
    "synthetic": (_GENERATED, _sasrec("synthetic", SASRecConfig(max_items=50), _SMALL)),
    "ml-100k": ("MovieLens 100K", _sasrec("ml-100k", SASRecConfig(max_items=100, hidden_dim=128), _SMALL)),
    "ml-1m": ("MovieLens 1M", _sasrec("ml-1m", SASRecConfig(max_items=200, dropout=0.1), _MEDIUM)),
    "ml-25m": (
        "MovieLens 25M, for a GPU",
        _sasrec("ml-25m", SASRecConfig(max_items=200, dim=128, loss=_SAMPLED), _LARGE),
    ),
}
_GRU4REC: Presets[GRU4RecRun] = {
    "synthetic": (_GENERATED, _gru4rec("synthetic", GRU4RecConfig(), _SMALL)),
    "ml-100k": ("MovieLens 100K", _gru4rec("ml-100k", GRU4RecConfig(max_items=100), _SMALL)),
}
_HSTU: Presets[HSTURun] = {
    "synthetic": (_GENERATED, _hstu("synthetic", HSTUConfig(), _SMALL)),
    "ml-100k": ("MovieLens 100K", _hstu("ml-100k", HSTUConfig(max_items=100), _SMALL)),
}
_SS4REC: Presets[SS4RecRun] = {
    "synthetic": (_GENERATED, _ss4rec("synthetic", SS4RecConfig(max_items=100), _SMALL)),
    "ml-100k": ("MovieLens 100K", _ss4rec("ml-100k", SS4RecConfig(max_items=100), _SMALL)),
    "ml-1m": ("MovieLens 1M", _ss4rec("ml-1m", SS4RecConfig(max_items=200, dropout=0.1), _MEDIUM)),
    "ml-25m": (
        "MovieLens 25M, for a GPU",
        _ss4rec("ml-25m", SS4RecConfig(max_items=200, dim=128, loss=_SAMPLED), _LARGE),
    ),
}


def _half(parts: Literal["s5", "mamba"]) -> TimedRecipe:
    """SS4Rec with one of its two parts: what each adds is the ablation."""

    def only(run: SS4RecRun) -> SS4RecRun:
        return replace(run, model=replace(run.model, parts=parts))

    presets: Mapping[str, tuple[str, SS4RecRun]] = {
        name: (f"{text}; {parts} alone", only(run)) for name, (text, run) in _SS4REC.items()
    }
    return TimedRecipe(
        parts, presets, f"SS4Rec's {parts} alone", sized=lambda size: only(_ss4rec_for(size)), kind="ss4rec"
    )


SASREC = SequenceRecipe[SASRecRun](
    "sasrec", _SASREC, "causal transformer (Kang & McAuley 2018)", sized=_sasrec_for
)
GRU4REC = SequenceRecipe[GRU4RecRun](
    "gru4rec", _GRU4REC, "recurrent network (Hidasi et al. 2016)", sized=_gru4rec_for
)
HSTU = HSTURecipe("hstu", _HSTU, "attention without softmax, by time too (Zhai et al. 2024)", sized=_hstu_for)
SS4REC = TimedRecipe("ss4rec", _SS4REC, "S5 in continuous time, and Mamba (Xiao 2025)", sized=_ss4rec_for)
S5, MAMBA = _half("s5"), _half("mamba")
