"""Retrievers: popularity and ItemKNN by counting, two-tower by gradient, all on one prepared data set."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recray import checkpoint, models
from recray.batch import EvalExamples, QueryBatch
from recray.config import ConfigError
from recray.contract import Retriever
from recray.data.batches.pairs import PairBatches
from recray.data.events.dataset import Dataset
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.ideal import IdealRanker
from recray.data.events.prepare import load_or_prepare
from recray.data.events.side_features import encode_side_features
from recray.data.events.splits import Split, split_by_name
from recray.data.rows.table import RowTable
from recray.data.sources import absolute
from recray.eval.evaluate import Evaluation, evaluate, sums
from recray.eval.generated import GeneratedScores, measurable
from recray.models.item_knn import ItemKNNConfig
from recray.models.popularity import PopularityConfig
from recray.models.two_tower import TwoTowerConfig
from recray.train.context import Context
from recray.train.loop import LoopConfig, Sums, fit
from recray.train.optim import OptimConfig

Target = Literal["validation", "test"]
MIN_STEPS = 20  # per epoch, where there is data for it


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data, and which part of it is held out."""

    dataset: str = "synthetic"
    """A registered data set (`recray datasets`), or the path of a CSV, Parquet, .inter or sequence file."""
    split: Literal["leave-one-out", "global-time", "random"] = "leave-one-out"
    """leave-one-out: last interaction of each user; global-time: after a date; random: a share of rows."""
    k_core: int = 0
    """Keep users and items with at least this many interactions, repeatedly; 0 keeps all."""

    def __post_init__(self) -> None:
        if self.k_core < 0:
            raise ConfigError(f"k_core must not be negative, got {self.k_core}")
        # Workers have working directories of their own.
        object.__setattr__(self, "dataset", absolute(self.dataset))


@dataclass(frozen=True, kw_only=True)
class TwoTowerRun:
    """Train a two-tower retriever."""

    data: DataConfig = field(default_factory=DataConfig)
    model: TwoTowerConfig = field(default_factory=TwoTowerConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    recency: float = 0.0
    """Newer interactions of a user count more: weight 0.1 + exp(-newer ones / recency); 0: all alike."""
    seed: int = 0
    """Of the initial weights, the order of the data and dropout."""


@dataclass(frozen=True, kw_only=True)
class CountRun:
    """Fit a model that learns by counting."""

    data: DataConfig = field(default_factory=DataConfig)
    model: PopularityConfig | ItemKNNConfig = field(default_factory=PopularityConfig)
    seed: int = 0
    """Unused: counting is deterministic."""


@dataclass(frozen=True, kw_only=True)
class IdealRun:
    """Nothing to train: the truth that the synthetic data was made from."""

    data: DataConfig = field(default_factory=DataConfig)
    seed: int = 0
    """Unused: the truth is what it is."""


def for_dataset(run: Any, dataset: str) -> Any:
    """The same run on other data."""
    return replace(run, data=replace(run.data, dataset=dataset))


def _two_tower(dataset: str, **changes: Any) -> TwoTowerRun:
    return TwoTowerRun(data=DataConfig(dataset=dataset), recency=10.0, **changes)


_LARGE = LoopConfig(batch_size=8192, epochs=10, patience=2)
TWO_TOWER_PRESETS: dict[str, tuple[str, TwoTowerRun]] = {
    "synthetic": ("generated data with a known truth; needs no download", _two_tower("synthetic")),
    "ml-100k": ("MovieLens 100K", _two_tower("ml-100k")),
    "ml-latest-small": ("MovieLens latest-small", _two_tower("ml-latest-small")),
    "ml-1m": ("MovieLens 1M", _two_tower("ml-1m", loop=LoopConfig(batch_size=4096))),
    "custom": ("your own events: --data.dataset FILE", _two_tower("events.csv")),
    "ml-25m": ("MovieLens 25M", _two_tower("ml-25m", loop=_LARGE)),
    "ml-32m": ("MovieLens 32M", _two_tower("ml-32m", loop=_LARGE)),
}

COUNT_PRESETS: dict[str, dict[str, tuple[str, CountRun]]] = {
    "popularity": {"synthetic": ("most interactions first", CountRun(model=PopularityConfig()))},
    "item_knn": {"synthetic": ("cosine neighbourhoods", CountRun(model=ItemKNNConfig()))},
}


@dataclass(frozen=True)
class Prepared:
    """A data set and its split."""

    dataset: Dataset
    split: Split


def prepared(data: DataConfig) -> Prepared:
    """The data set of a config, prepared first where it is missing.

    Raises:
        DataError: its raw files are not at hand; says where to put them.
    """
    dataset = load_or_prepare(data.dataset, k_core=data.k_core)
    return Prepared(dataset, split_by_name(dataset, data.split))


def new_model(run: Any, dataset: Dataset) -> Any:
    """The untrained model of a run, side features filled in; equal seeds give equal weights."""
    schema, tables = encode_side_features(dataset)
    torch.manual_seed(run.seed)
    model: Any = models.build(model_name(run), run.model, schema)
    if hasattr(model, "set_side_features"):
        model.set_side_features(tables)
    return model


def bundle_name(dataset: Dataset | RowTable, role: str) -> str:
    """What a data set's model is published as; letters that a bundle's name cannot have become '-'."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', dataset.name).lstrip('._-') or 'data'}-{role}"


def model_name(run: Any) -> str:
    """The registry name of the model that a run's config belongs to."""
    return next(name for name in models.MODELS if models.config_of(name) is type(run.model))


def batch_size_for(loop: LoopConfig, count: int, least: int = 64) -> int:
    """The batch size for ``count`` rows: smaller than asked for where the data is small.

    Else an epoch would be a step or two, and early stopping counts epochs.
    """
    return min(loop.batch_size, max(least, count // MIN_STEPS))


def train_pairs(run: TwoTowerRun, context: Context) -> Retriever:
    """Trains on the pairs of the training part, validates on the validation part; see ``train.loop.fit``."""
    data = prepared(run.data)
    model = new_model(run, data.dataset)
    batch_size = batch_size_for(run.loop, int(data.split.train_N.sum()))
    batches = PairBatches(data.dataset, data.split.train_N, batch_size, run.seed, recency=run.recency)
    fit(
        model,
        batches,
        validation(data, context),
        config=run.loop,
        optim=run.optim,
        context=context,
        seed=run.seed,
        data=f"{data.dataset.name} {data.dataset.hash[:12]}",
    )
    trained: Retriever = model
    return trained


def train_counts(run: CountRun, context: Context) -> Retriever:
    """Counts the training part in one pass."""
    data = prepared(run.data)
    model = new_model(run, data.dataset)
    mask_N = data.split.train_N
    user_ids_N, item_ids_N = data.dataset.user_ids_N[mask_N], data.dataset.item_ids_N[mask_N]
    model.count(torch.from_numpy(user_ids_N), torch.from_numpy(item_ids_N))
    counted: Retriever = model
    return counted


def reveal_ideal(run: IdealRun, context: Context) -> IdealRanker:
    """The best possible ranking of the test part of the synthetic data.

    Raises:
        DataError: the data set has no planted truth.
    """
    data = prepared(run.data)
    times_N = data.dataset.timestamps_N[data.split.test_N]
    span_s = int(times_N[-1] - times_N[0]) if run.data.split == "global-time" else 0
    return IdealRanker(data.dataset, span_s)


def restore(run: TwoTowerRun, folder: Path) -> Any:
    """The model with the best weights of a run's checkpoint."""
    model = new_model(run, prepared(run.data).dataset)
    checkpoint.load_model(folder, model)
    return model.eval()


def evaluate_retriever(
    model: Any, data: Prepared, target: Target = "test", ks: tuple[int, ...] = (10,)
) -> Evaluation:
    """Full-ranking metrics of a retriever on one part of the split."""
    examples, card = eval_examples(data.dataset, data.split, target)
    counts_I = item_counts(data.dataset, data.split.train_N)
    scored = measurable(model, data.dataset.num_items, max(ks))
    evaluation = evaluate(scored.score_items, examples, card, counts_I, ks=ks)
    if not isinstance(scored, GeneratedScores):
        return evaluation
    # Beyond the list the order is unknown: an area under it would not be the model's.
    per_query = {name: values_U for name, values_U in evaluation.per_query.items() if name != "auc"}
    scalars = {**evaluation.scalars, "exact_share": scored.exact_share()}
    return replace(evaluation, per_query=per_query, scalars=scalars)


def validation(
    data: Prepared, context: Context, *, users: int = 0, seed: int = 0
) -> Callable[[nn.Module], Sums]:
    """This rank's share of the validation metrics: users are dealt out in contiguous blocks.

    Args:
        users: as many are drawn, once, by the seed; 0: all of them.
    """
    examples, card = eval_examples(data.dataset, data.split, "validation")
    mine = _share(_sample(examples, users, seed), context)
    counts_I = item_counts(data.dataset, data.split.train_N)

    def validate(model: Any) -> Sums:
        scored = measurable(model, data.dataset.num_items, 10)
        return sums(evaluate(_on(context.device, scored), mine, card, counts_I, ks=(10,)))

    return validate


def _on(device: torch.device, model: Any) -> Callable[[QueryBatch], Tensor]:
    """``model.score_items`` for queries that lie on the CPU."""

    def score_items(queries: QueryBatch) -> Tensor:
        scores_BI: Tensor = model.score_items(queries.to(device))
        return scores_BI

    return score_items


def _sample(examples: EvalExamples, users: int, seed: int) -> EvalExamples:
    count = len(examples.queries.user_ids_B)
    if not 0 < users < count:
        return examples
    rows = np.sort(np.random.default_rng(seed).choice(count, users, replace=False))
    return examples.take(torch.from_numpy(rows))


def _share(examples: EvalExamples, context: Context) -> EvalExamples:
    count = len(examples.queries.user_ids_B)
    start = count * context.rank // context.world_size
    stop = count * (context.rank + 1) // context.world_size
    return EvalExamples(examples.queries.slice(start, stop), examples.targets.slice(start, stop))
