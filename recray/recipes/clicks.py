"""DLRM on rows to rank: clicks by BCE, sessions by LambdaRank; trained, measured and published."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from recray import checkpoint
from recray.batch import RankingBatch
from recray.bundles.weights import save_model
from recray.config import ConfigError, nearest, to_dict
from recray.data.batches.rows import MemoryRows, StreamedRows
from recray.data.row_source import Part
from recray.data.rows.prepare import load_or_prepare_rows
from recray.data.rows.table import DenseStats, RowTable
from recray.data.sources import absolute
from recray.eval.clicks import Clicks, click_sums, metrics_of_sums
from recray.eval.evaluate import Evaluation, sums
from recray.eval.sessions import evaluate_sessions
from recray.models.dlrm import DLRM, DLRMConfig
from recray.ops.embedding_bags import EmbeddingConfig, Placement
from recray.recipes.retrieval import MIN_STEPS, bundle_name
from recray.schema import ProtocolCard
from recray.store.bundle import Bundle
from recray.store.store import Store
from recray.train.context import Context
from recray.train.loop import BatchSource, LoopConfig, Sums, fit
from recray.train.optim import OptimConfig

log = logging.getLogger(__name__)
KS = (1, 3, 5, 10)  # of the NDCG of sessions
LOWER_IS_BETTER = ("logloss", "normalised_entropy")
SCORED_UNITS = 1024  # rows or sessions scored together, where no run says how many


@dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """Which rows, and how they reach the workers."""

    dataset: str = "synthetic-clicks"
    """A registered data set (`recray datasets`), or the path of a file or folder."""
    sessions: bool = False
    """Ratings become one list per user, in place of clicks; queries of ranking data are sessions anyway."""
    reader: Literal["memory", "threads", "ray"] = "memory"
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
    seed: int = 0
    """Of the initial weights, the order of the data and dropout."""

    def __post_init__(self) -> None:
        metric, goal = self.loop.metric, "min" if self.loop.metric in LOWER_IS_BETTER else "max"
        known = ("auc", *LOWER_IS_BETTER, *(f"ndcg@{k}" for k in KS))
        if metric not in known:
            raise ConfigError(f"no loop.metric {metric!r} to go by{nearest(metric, known)}")
        if self.loop.goal != goal:
            raise ConfigError(
                f"{metric} is better when {'lower' if goal == 'min' else 'higher'}: set loop.goal {goal}"
            )


def _run(dataset: str, *, sessions: bool = False, reader: Any = "memory", **changes: Any) -> DLRMRun:
    return DLRMRun(data=RowsConfig(dataset=dataset, sessions=sessions, reader=reader), **changes)


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
# Once over the data: ids seen twice are learnt by heart.
_CRITEO: dict[str, Any] = {"optim": OptimConfig(lr=1e-3), "loop": _loop("auc", 1, 2048, save_every=2000)}
DLRM_PRESETS: dict[str, tuple[str, DLRMRun]] = {
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
        _run("criteo-kaggle", reader="ray", **_CRITEO),
    ),
    "criteo-1tb": (
        "Criteo Terabyte: 4 billion rows, the widths of MLPerf",
        _run(
            "criteo-1tb",
            reader="ray",
            model=DLRMConfig(embedding_dim=128, bottom=(512, 256), top=(1024, 1024, 512, 256)),
            optim=OptimConfig(lr=1e-3, warmup_steps=2000, schedule="linear"),
            loop=_loop("auc", 1, 65_536, save_every=2000),
        ),
    ),
}

LAMBDARANK_PRESETS: dict[str, tuple[str, DLRMRun]] = {
    "ltr-lightgbm": (
        "LightGBM's ranking example: 201 queries, 300 features, grades 0 to 4",
        _run(
            "ltr-lightgbm",
            model=DLRMConfig(
                embedding_dim=128, bottom=(), top=(64,), dropout=0.5, dense="none", loss="lambdarank"
            ),
            optim=OptimConfig(lr=1e-3, weight_decay=0.1),
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


def open_rows(data: RowsConfig) -> RowTable:
    """The rows of a config, prepared first where they are missing.

    Raises:
        DataError: their raw files are not at hand; says where to put them.
    """
    return load_or_prepare_rows(data.dataset, **({"sessions": "user"} if data.sessions else {}))


def new_dlrm(run: DLRMRun, table: RowTable, placement: Placement = Placement()) -> DLRM:  # noqa: B008 - frozen
    """The untrained model of a run; equal seeds give equal weights, on any number of workers."""
    model = DLRM(run.model, table.schema, placement, seed=run.seed)
    set_dense_stats(model, table.dense)
    return model


def set_dense_stats(model: DLRM, dense: Sequence[DenseStats]) -> None:
    """Tells the model what the training part holds of each dense column."""
    stats_4F = torch.tensor([[s.low, s.high, s.mean, s.std] for s in dense]).reshape(-1, 4).T
    model.set_dense_stats(*stats_4F)


def train_rows(run: DLRMRun, context: Context) -> DLRM:
    """Trains on the training part, validates on the validation part; see ``train.loop.fit``."""
    table = open_rows(run.data)
    model = new_dlrm(run, table, Placement(context.rank, context.world_size, context.device))
    if context.rank == 0 and model.embeddings is not None:
        log.info(model.embeddings.describe())
    # Small data in large batches would be a step or two per epoch, and early stopping counts epochs.
    batch_size = min(run.loop.batch_size, max(64, table.num_units("train") // MIN_STEPS))
    fit(
        model,
        _batches(run, table, "train", batch_size),
        _validation(run, table, context),
        config=run.loop,
        optim=run.optim,
        context=context,
        seed=run.seed,
        data=f"{table.name} {table.hash[:12]}",
    )
    return model


def _batches(run: DLRMRun, table: RowTable, part: Part, batch_size: int) -> BatchSource:
    shuffle = part == "train"
    if run.data.reader == "memory":
        return MemoryRows(table.read(part), batch_size, run.seed, shuffle=shuffle)
    return StreamedRows(table, part, batch_size, run.seed, shuffle=shuffle, reader=run.data.reader)


def _validation(run: DLRMRun, table: RowTable, context: Context) -> Callable[[nn.Module], Sums]:
    """This rank's share of the validation metrics; every rank takes a share of every batch."""
    source: Any = _batches(run, table, "validation", run.loop.batch_size)

    def batches() -> Iterator[RankingBatch]:
        for step in range(source.num_steps()):
            yield source.batch(0, step, context.rank, context.world_size).to(context.device)

    def validate(model: Any) -> Sums:
        if table.schema.sessions:
            return sums(_session_metrics(model, batches(), row_card(table, "validation")))
        counted = sum((_click_sums(model, batch) for batch in batches()), torch.zeros(()))
        if context.world_size > 1:
            dist.all_reduce(counted)
        # AUC is no mean of the workers' AUCs: it is computed from all counts, on every worker alike.
        return {name: (value, 1.0) for name, value in metrics_of_sums(counted).items()}

    return validate


def _click_sums(model: DLRM, batch: RankingBatch) -> Tensor:
    return click_sums(model.score(batch), _clicks(batch.labels_B, model.config))


def _clicks(labels_B: Tensor, config: DLRMConfig) -> Tensor:
    return (labels_B >= config.positive_grade).to(torch.float32)


def _session_metrics(model: DLRM, batches: Iterator[RankingBatch], card: ProtocolCard) -> Evaluation:
    scores, labels, lengths = [], [], [torch.zeros(1, dtype=torch.int64)]
    for batch in batches:
        assert batch.offsets_S is not None
        scores.append(model.score(batch).cpu())
        labels.append(batch.labels_B.cpu())
        lengths.append(batch.offsets_S.diff().cpu())
    scores_N, grades_N = (torch.cat(parts).double().numpy() for parts in (scores, labels))
    return evaluate_sessions(scores_N, grades_N, torch.cat(lengths).cumsum(0).numpy(), card, KS)


def evaluate_rows(model: DLRM, table: RowTable, part: Part = "test") -> Clicks | Evaluation:
    """NDCG of each session; where rows stand alone, what is needed for click metrics with intervals."""
    model.eval()
    with torch.no_grad():
        if table.schema.sessions:
            return _session_metrics(model, _whole_part(table, part), row_card(table, part))
        scored = [(model.score(b), _clicks(b.labels_B, model.config)) for b in _whole_part(table, part)]
    logits_N, labels_N = (torch.cat(parts).double().numpy() for parts in zip(*scored, strict=True))
    card = row_card(table, part)
    return Clicks(card=card, logits_N=logits_N, labels_N=labels_N, units_N=np.arange(len(labels_N)))


def _whole_part(table: RowTable, part: Part) -> Iterator[RankingBatch]:
    for block in table.blocks(part):
        for start in range(0, block.num_units, SCORED_UNITS):
            yield block.slice(start, min(start + SCORED_UNITS, block.num_units)).to_batch()


def row_card(table: RowTable, part: Part) -> ProtocolCard:
    """The protocol of what is measured on a part."""
    threshold = table.manifest.options.get("threshold")
    return ProtocolCard(
        dataset=table.name,
        dataset_hash=table.hash,
        split=table.manifest.split,
        target=part,
        relevance="as labelled" if threshold is None else f"rating>={threshold:g}",
        k_core=0,
        candidates="sessions as recorded" if table.schema.sessions else "rows as recorded",
        seen="kept",
    )


def restore_dlrm(run: DLRMRun, folder: Path) -> DLRM:
    """The model of a run's checkpoint, whole in this process, whatever it was trained on."""
    model = new_dlrm(in_one_process(run), open_rows(run.data))
    checkpoint.load_model(folder, model)
    return model.eval()


def in_one_process(run: DLRMRun) -> DLRMRun:
    """The same model with the plain tables, which need nothing installed; weights have the same names."""
    embedding = replace(run.model.embedding, backend="torch", sharding="auto")
    return replace(run, model=replace(run.model, embedding=embedding))


def publish_dlrm(
    run: DLRMRun, model: DLRM, table: RowTable, metrics: dict[str, float], store: Store
) -> Bundle:
    """Publishes a trained DLRM as ``<data set>-dlrm``; ``store.weights.load_model`` rebuilds it.

    Args:
        model: whole, as ``restore_dlrm`` gives it.
        metrics: of the test part.
    """
    return store.publish(
        bundle_name(table, "dlrm"),
        lambda folder: save_model(model, folder),
        model="dlrm",
        config=to_dict(in_one_process(run).model),
        schema=table.schema,
        card=row_card(table, "test"),
        metrics=metrics,
    )
