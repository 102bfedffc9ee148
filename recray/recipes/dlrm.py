"""DLRM on rows to rank: clicks by BCE, sessions by LambdaRank."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict, Unpack

import torch

from recray import checkpoint
from recray.batch import RankingBatch
from recray.bundles.clicks import save_scorer
from recray.bundles.naming import bundle_name
from recray.config import ConfigError, nearest, override, to_dict
from recray.data.batches.rows import MemoryRows, StreamedRows
from recray.data.row_source import PARTS, Part
from recray.data.rows.prepare import load_or_prepare_rows
from recray.data.rows.sources import holds_ratings
from recray.data.rows.table import DenseStats, RowTable
from recray.data.sources import absolute
from recray.eval.clicks import ClickEvaluation
from recray.eval.evaluate import Evaluation
from recray.models.dlrm import DLRM, DLRMConfig
from recray.ops.embedding_bags import EmbeddingConfig, Placement
from recray.recipes.row_metrics import KS, evaluate_rows, validation
from recray.schema import DataError, Learnt
from recray.store import Draft
from recray.train.context import Context
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from recray.train.refit import Continued, going_on
from recray.train.run import DataFacts, Measured, Presets, TorchRecipe, require_seed

log = logging.getLogger(__name__)
FEW_ROWS = 50_000  # to train on
LOWER_IS_BETTER = ("logloss", "normalised_entropy")
Reader: TypeAlias = Literal["memory", "threads", "ray"]
Batches: TypeAlias = MemoryRows | StreamedRows


@dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """Which rows, and how they reach the workers."""

    dataset: str = "synthetic-clicks"
    """A registered data set (`recray datasets`), or the path of a file or folder."""
    sessions: bool = False
    """Ratings become one list per user, in place of clicks; queries of ranking data are sessions anyway."""
    reader: Reader = "memory"
    """memory: all of it in every worker. threads, ray: streamed from disk, by the worker or by Ray Data."""

    def __post_init__(self) -> None:
        # Workers have working directories of their own.
        object.__setattr__(self, "dataset", absolute(self.dataset))


@dataclass(frozen=True, kw_only=True)
class DLRMRun:
    """Train a DLRM."""

    data: RowsConfig = field(default_factory=RowsConfig)
    model: DLRMConfig = field(default_factory=DLRMConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(metric="auc"))
    refit: bool = True
    """Once it was measured on the test part, train again on the rows of all parts, for as long as validation
    chose; or go on with those that it has not learnt. The metrics stay those of the split; ids and statistics
    of columns stay those of the training part."""
    continued: Continued = field(default_factory=lambda: Continued(rate=0.3))
    seed: int = 0
    """Of the initial weights, the order of the data and dropout."""

    def __post_init__(self) -> None:
        require_seed(self.seed)
        self.continued.require(self.refit)
        metric, goal = self.loop.metric, "min" if self.loop.metric in LOWER_IS_BETTER else "max"
        known = ("auc", *LOWER_IS_BETTER, *(f"ndcg@{k}" for k in KS))
        if metric not in known:
            raise ConfigError(f"no loop.metric {metric!r} to go by{nearest(metric, known)}")
        if self.loop.goal != goal:
            raise ConfigError(
                f"{metric} is better when {'lower' if goal == 'min' else 'higher'}: set loop.goal {goal}"
            )


@dataclass(frozen=True)
class DLRMRecipe(TorchRecipe[DLRMRun, RowTable, DLRM]):
    """Rows of the training part, from memory or streamed; tables cut over the workers."""

    sessions: bool = False
    """Whether data without a preset is taken as sessions, to be ordered by LambdaRank."""

    def default(self, dataset: str) -> DLRMRun:
        # Queries of ranking data are sessions anyway.
        lists = self.sessions and holds_ratings(dataset)
        run = DLRMRun(data=RowsConfig(dataset=dataset, sessions=lists), optim=OptimConfig(lr=1e-3))
        table = open_rows(run.data)
        rows = table.num_rows("train")
        if table.schema.sessions:
            if not table.schema.sparse:
                return replace(run, model=_NUMBERS, optim=_NUMBERS_OPTIM, loop=_loop("ndcg@10", 40, 16, 8))
            loop = _loop("ndcg@10", 20, 16, 4)
            return replace(run, model=replace(_SMALL, loss="lambdarank", unknown=0.3), loop=loop)
        if rows > 1_000_000:  # once over the data: ids seen twice are learnt by heart
            return replace(run, loop=_loop("auc", 1, 2048, save_every=2000))
        batch_size = min(2048, max(256, rows // 100))
        if rows < FEW_ROWS:  # where a logistic regression is hard to beat
            loop = replace(_loop("logloss", 20, batch_size, 4), goal="min")
            model = replace(_SMALL, bins=8, linear=True, dropout=0.5, unknown=0.3)
            return replace(run, model=model, loop=loop)
        return replace(run, model=replace(_SMALL, unknown=0.3), loop=_loop("auc", 10, batch_size))

    def open(self, run: DLRMRun) -> RowTable:
        """The rows, prepared first where they are missing.

        Raises:
            DataError: their raw files are not at hand, or a part has nothing to tell apart.
        """
        table = open_rows(run.data)
        if self.sessions and not table.schema.sessions:
            raise ConfigError(
                f"{table.name} has rows without sessions, so there is no order to learn: bring query groups, "
                "set --data.sessions for ratings, or train it with `recray train dlrm`"
            )
        for info in table.manifest.parts:
            alike = "not relevant" if info.positives == 0 else "clicks" if info.positives == info.rows else ""
            if alike and not (table.schema.sessions and info.positives):
                raise DataError(
                    f"{table.name}: all {info.rows:,} rows of the {info.name} part are {alike}: nothing can "
                    "be learnt from them or measured on them; choose another split, or bring more rows"
                )
            if table.schema.sessions and not table.has_order(info.name):
                raise DataError(
                    f"{table.name}: no session of the {info.name} part ({info.units:,} of them) has rows of "
                    "different labels: any order is as good, and NDCG would be 1 whatever the model; bring "
                    "sessions with rows that are less relevant, or choose another split"
                )
        return table

    def facts(self, data: RowTable) -> DataFacts:
        parts = "/".join(f"{data.num_rows(part):,}" for part in PARTS)
        return DataFacts(data.name, data.hash, f"{data.manifest.split}; rows: {parts}")

    def loop(self, run: DLRMRun) -> LoopConfig:
        return run.loop

    def learns_before_serving(self, run: DLRMRun) -> bool:
        return run.refit

    def again(self, run: DLRMRun, epochs: int) -> DLRMRun:
        return override(run, {"loop.stop_after": epochs})

    def continued(self, run: DLRMRun) -> DLRMRun | None:
        return going_on(run, {"model.embedding.lr": run.model.embedding.lr})

    def learning(self, run: DLRMRun, data: RowTable, learn: Learnt) -> RowTable:
        # Going on, no row is learnt twice: ids seen twice are learnt by heart.
        return data.learning(learn, only_new=run.continued.epochs > 0)

    def new(self, run: DLRMRun, data: RowTable, context: Context = Context()) -> DLRM:  # noqa: B008 - frozen
        """With this worker's part of the tables; equal seeds give equal weights on any number of workers."""
        placement = Placement(context.rank, context.world_size, context.device)
        model = DLRM(run.model, data.schema, placement, seed=run.seed)
        set_dense_stats(model, data.dense)
        if run.model.bins:  # some rows are enough for quantiles: no part is read whole for them
            model.set_dense_rows(next(data.blocks("train")).dense_NF)
        return model

    def fit(self, run: DLRMRun, data: RowTable, model: DLRM, context: Context) -> None:
        """Trains on the training part, validates on the validation part; see ``train.loop.fit``."""
        if context.rank == 0 and model.embeddings is not None:
            log.info(model.embeddings.describe())
        batch_size = run.loop.batch_size_for(data.num_units("train"))
        fit(
            model,
            _batches(run, data, "train", batch_size),
            validation(data, _shares(run, data, context), context),
            config=run.loop,
            optim=run.optim,
            context=context,
            seed=run.seed,
            data=f"{data.name} {data.hash[:12]}",
        )

    def restore(self, run: DLRMRun, data: RowTable, folder: Path) -> DLRM:
        """Whole in this process, whatever it was trained on: with the plain tables, which need nothing
        installed; weights have the same names."""
        model = self.new(in_one_process(run), data)
        checkpoint.load_model(folder, model)
        return model.eval()

    def measure(
        self, run: DLRMRun, data: RowTable, model: DLRM, part: Part = "test"
    ) -> ClickEvaluation | Evaluation:
        return evaluate_rows(model, data, part)

    def draft(self, run: DLRMRun, data: RowTable, model: DLRM, measured: Measured) -> Draft:
        """``bundles.clicks.open_scorer`` rebuilds it; the model alone, ``bundles.weights.load_model``."""
        return Draft(
            name=bundle_name(data.name, "dlrm"),
            write=lambda folder: save_scorer(model, data.encoding, folder),
            model="dlrm",
            config=to_dict(in_one_process(run).model),
            schema=data.schema,
            card=measured.card,
            metrics=measured.means(),
        )


def open_rows(data: RowsConfig) -> RowTable:
    """The rows of a config, prepared first where they are missing.

    Raises:
        DataError: their raw files are not at hand; says where to put them.
    """
    return load_or_prepare_rows(data.dataset, **({"sessions": "user"} if data.sessions else {}))


def set_dense_stats(model: DLRM, dense: Sequence[DenseStats]) -> None:
    """Tells the model what the training part holds of each dense column."""
    stats_4F = torch.tensor([[s.low, s.high, s.mean, s.std] for s in dense]).reshape(-1, 4).T
    model.set_dense_stats(*stats_4F)


def _batches(run: DLRMRun, table: RowTable, part: Part, batch_size: int) -> Batches:
    shuffle = part == "train"
    if run.data.reader == "memory":
        return MemoryRows(table.read(part), batch_size, run.seed, shuffle=shuffle)
    return StreamedRows(table, part, batch_size, run.seed, shuffle=shuffle, reader=run.data.reader)


def _shares(run: DLRMRun, table: RowTable, context: Context) -> Callable[[], Iterator[RankingBatch]]:
    """This rank's share of every batch of the validation part, time after time."""
    source = _batches(run, table, "validation", run.loop.batch_size)

    def batches() -> Iterator[RankingBatch]:
        for step in range(source.num_steps()):
            yield source.batch(0, step, context.rank, context.world_size).to(context.device)

    return batches


def in_one_process(run: DLRMRun) -> DLRMRun:
    """The same model with the plain tables."""
    embedding = replace(run.model.embedding, backend="torch", sharding="auto")
    return replace(run, model=replace(run.model, embedding=embedding))


class _Changes(TypedDict, total=False):
    model: DLRMConfig
    optim: OptimConfig
    loop: LoopConfig


def _run(
    dataset: str,
    *,
    sessions: bool = False,
    reader: Reader = "memory",
    refit: bool = True,
    **changes: Unpack[_Changes],
) -> DLRMRun:
    data = RowsConfig(dataset=dataset, sessions=sessions, reader=reader)
    return DLRMRun(data=data, refit=refit, **changes)


def _loop(metric: str, epochs: int, batch_size: int, patience: int = 2, save_every: int = 0) -> LoopConfig:
    return LoopConfig(
        metric=metric,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        checkpoint_every_steps=save_every,
    )


_SMALL = DLRMConfig(
    embedding=EmbeddingConfig(lr=0.005), bottom=(64,), top=(64, 32), dropout=0.2, dense="standard"
)
# Lists that numbers alone describe, as LETOR's.
_NUMBERS = DLRMConfig(embedding_dim=128, bottom=(), top=(64,), dropout=0.5, bins=8, loss="lambdarank")
_NUMBERS_OPTIM = OptimConfig(lr=1e-3, weight_decay=0.1)
# Once over the data: ids seen twice are learnt by heart. The large ones are published as measured, for a
# second training costs as much as the first.
_CRITEO: _Changes = {"optim": OptimConfig(lr=1e-3), "loop": _loop("auc", 1, 2048, save_every=2000)}
_DLRM: Presets[DLRMRun] = {
    "synthetic": (
        "generated clicks with a known truth; needs no download",
        _run("synthetic-clicks", **_CRITEO),
    ),
    "ml-1m": (
        "MovieLens 1M, ratings of at least 4 as clicks",
        _run(
            "ml-1m",
            # A user's latest items say more than the user's id, and say it of new users too.
            model=replace(_SMALL, ignore=("user_id",)),
            optim=OptimConfig(lr=1e-3),
            loop=_loop("auc", 4, 2048),
        ),
    ),
    "criteo-sample": (
        "8,000 rows of Criteo: all steps in seconds",
        _run(
            "criteo-sample",
            model=replace(_SMALL, unknown=0.3),
            optim=OptimConfig(lr=1e-3),
            loop=_loop("auc", 20, 256, 5),
        ),
    ),
    "criteo-kaggle": (
        "Criteo Kaggle: 45 million rows, the original's defaults",
        _run("criteo-kaggle", reader="ray", refit=False, **_CRITEO),
    ),
    "criteo-1tb": (
        "Criteo Terabyte: 4 billion rows, the widths of MLPerf",
        _run(
            "criteo-1tb",
            reader="ray",
            model=DLRMConfig(embedding_dim=128, bottom=(512, 256), top=(1024, 1024, 512, 256)),
            optim=OptimConfig(lr=1e-3, warmup_steps=2000, schedule="linear"),
            loop=_loop("auc", 1, 65_536, save_every=2000),
            refit=False,
        ),
    ),
}

_LAMBDARANK: Presets[DLRMRun] = {
    "ltr-lightgbm": (
        "LightGBM's ranking example: 201 queries, 300 features, grades 0 to 4",
        _run(
            "ltr-lightgbm",
            model=_NUMBERS,
            optim=_NUMBERS_OPTIM,
            loop=_loop("ndcg@10", 40, 16, 8),
        ),
    ),
    "ml-1m": (
        "MovieLens 1M: a list per user, graded by rating",
        _run(
            "ml-1m",
            sessions=True,
            model=replace(_SMALL, embedding=EmbeddingConfig(lr=0.01), unknown=0.5, loss="lambdarank"),
            optim=OptimConfig(lr=1e-3),
            loop=_loop("ndcg@10", 8, 16),
        ),
    ),
}

DLRM_RECIPE = DLRMRecipe("dlrm", _DLRM, "clicks, or sessions by LambdaRank (Naumov et al. 2019)")
LAMBDARANK = DLRMRecipe(
    "lambdarank", _LAMBDARANK, "DLRM that orders sessions (LambdaRank, Burges 2010)", sessions=True
)
