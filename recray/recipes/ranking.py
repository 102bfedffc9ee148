"""The ranking stage: a published retriever's candidates, point-in-time features, and what orders them.

The ranker learns from the validation part, which the retriever never saw: on the training part the
retriever's scores look better than they will ever be.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recray.batch import EvalExamples, QueryBatch
from recray.bundles.retriever import RANKERS, read_retriever, write_ranker
from recray.bundles.searcher import Searcher
from recray.bundles.weights import load_model
from recray.config import ConfigError, to_dict
from recray.contract import Scorer
from recray.data.events.dataset import Dataset
from recray.data.events.examples import eval_examples, item_counts
from recray.eval.evaluate import Evaluation, evaluate
from recray.features.candidates import (
    CandidateConfig,
    Candidates,
    gather,
    popular_first,
)
from recray.features.examples import (
    RankingExamples,
    load_examples,
    quantized,
    ranking_examples,
    ranking_query,
    save_examples,
)
from recray.features.items import item_features
from recray.features.log import EventLog
from recray.features.queries import day_queries
from recray.features.ranking import compute
from recray.models.dlrm import DLRMConfig
from recray.models.gbdt import GBDTConfig
from recray.recipes.retrieval import DataConfig, Prepared, bundle_name, prepared
from recray.store.bundle import Bundle
from recray.store.store import Store
from recray.train.boosted import train_boosted
from recray.train.context import Context
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig

log = logging.getLogger(__name__)
TRAIN, HOLDOUT = "train.parquet", "holdout.parquet"
DLRM_HOLDOUT = 0.1
SMALL_DLRM = DLRMConfig(embedding_dim=8, bottom=(64,), top=(64, 32), loss="lambdarank")


@dataclass(frozen=True, kw_only=True)
class RankerRun:
    """Train a ranker, XGBoost's trees or a DLRM, on the candidates of a published retriever."""

    data: DataConfig = field(default_factory=DataConfig)
    retriever: str = ""
    """Bundle name of the retriever; empty: "<dataset>-two_tower"."""
    retriever_version: str = "latest"
    """Its version: a number, a name such as production, or latest."""
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    ranker: Literal["gbdt", "dlrm"] = "gbdt"
    """gbdt: boosted trees, set by gbdt. dlrm: a network, set by dlrm, optim and loop. Same features."""
    gbdt: GBDTConfig = field(default_factory=GBDTConfig)
    dlrm: DLRMConfig = field(default_factory=lambda: SMALL_DLRM)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-3))
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=30, batch_size=64, patience=3))
    negatives: int = 50
    """Candidates that were not chosen kept per training query; 0 keeps all."""
    holdout: float | None = None
    """Share of the users kept for early stopping; None: 0.1 for a DLRM, 0 (train on all) for trees."""
    seed: int = 0
    """Of the negatives, the users held out, and a DLRM's weights and order of data."""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"holdout must be at least 0 and below 1, got {self.holdout}")
        if self.ranker == "dlrm" and not self.held_out:
            raise ConfigError("a DLRM stops by users that it does not train on: set holdout, for example 0.1")
        if self.negatives < 0:
            raise ConfigError(f"negatives must not be negative, got {self.negatives}")
        if self.gbdt.early_stopping_rounds and not self.held_out:
            raise ConfigError("gbdt.early_stopping_rounds needs users to go by: set holdout, for example 0.2")

    @property
    def held_out(self) -> float:
        """Share of the users kept for early stopping."""
        return (DLRM_HOLDOUT if self.ranker == "dlrm" else 0.0) if self.holdout is None else self.holdout


class TwoStage:
    """A published retriever and the events that features look into; with a ranker, both stages."""

    def __init__(self, bundle: Bundle, data: Prepared, config: CandidateConfig) -> None:
        _require_same_data(bundle, data)
        self.bundle, self.data, self.config = bundle, data, config
        files = read_retriever(bundle)
        self.searcher = Searcher(files, load_model(bundle))
        self.log = event_log(data.dataset)
        self._popular_first_I = popular_first(files.item_counts_I)

    def candidates(self, queries: QueryBatch) -> list[Candidates]:
        """Each query's candidates, found as a replica finds them."""
        return [
            gather(prepared.search, self._popular_first_I, queries.history.row(b).numpy(), self.config)
            for b, prepared in enumerate(self.searcher.prepare(queries))
        ]

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI of the first stage alone."""
        return self.searcher.score_items(queries)

    def ranked_by(self, ranker: Scorer, queries: QueryBatch) -> Tensor:
        """scores_BI: candidates by the ranker's score, then all other items by the retriever's."""
        scores_BI = self.score_items(queries).clone()
        floor_B = scores_BI.amax(dim=1) + 1.0
        for b, candidates in enumerate(self.candidates(queries)):
            features_KF = compute(self.log, ranking_query(queries, b, candidates))
            scores_K = ranker.score(features_KF, candidates.item_ids_K)
            above_K = torch.from_numpy(scores_K - scores_K.min()) + floor_B[b]
            scores_BI[b, torch.from_numpy(candidates.item_ids_K)] = above_K
        return scores_BI


def _require_same_data(bundle: Bundle, data: Prepared) -> None:
    card = bundle.manifest.card
    if card is None or (card.dataset_hash, card.split) != (data.dataset.hash, data.split.name):
        trained = (
            "an unknown protocol"
            if card is None
            else f"{card.dataset} ({card.dataset_hash[:8]}), {card.split}"
        )
        raise ConfigError(
            f"{bundle.reference} was trained under {trained}, this run uses {data.dataset.name} "
            f"({data.dataset.hash[:8]}), {data.split.name}: the ranker would learn from what the "
            "retriever was trained on. Give both the same --data"
        )


def event_log(dataset: Dataset) -> EventLog:
    """All events of a data set; what is asked strictly before a time sees nothing of that time or later."""
    return EventLog(
        dataset.user_ids_N,
        dataset.item_ids_N,
        dataset.ratings_N,
        dataset.timestamps_N,
        num_users=dataset.num_users,
        num_items=dataset.num_items,
        items=item_features(dataset.items),
    )


def open_two_stage(run: RankerRun, store: Store) -> TwoStage:
    """The retriever that a run names, on the run's data.

    Raises:
        ConfigError: it is not in the store, or was trained under another protocol.
    """
    data = prepared(run.data)
    name = run.retriever or bundle_name(data.dataset, "two_tower")
    if not run.retriever and name not in store.applications():
        raise ConfigError(
            f"no {name!r} in the store: train and publish it first with jobs/train_two_tower.py"
        )
    bundle = store.open(name, run.retriever_version)
    if bundle.manifest.schema is None:
        raise ConfigError(f"{bundle.reference} is a {bundle.manifest.model!r}, not a retriever")
    bundle.verify()
    return TwoStage(bundle, data, run.candidates)


class RankerTask(NamedTuple):
    """What each worker is given."""

    run: RankerRun
    folder: Path  # holds TRAIN and HOLDOUT
    num_items: int


def write_examples(run: RankerRun, stages: TwoStage, folder: Path) -> None:
    """Ranking examples of the validation part, as files that workers read their queries from."""
    examples = training_queries(run, stages)
    rows = ranking_examples(
        stages.log,
        examples.queries,
        stages.candidates(examples.queries),
        examples.targets,
        negatives=run.negatives or None,
        seed=run.seed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    held_out_N = _held_out(examples.queries.user_ids_B.numpy()[rows.query_ids_N], run)
    train = _only(rows, ~held_out_N)
    # Quantised before it is dealt out: the trees are then the same for any number of workers.
    save_examples(quantized(train) if run.ranker == "gbdt" else train, folder / TRAIN)
    if run.held_out:
        save_examples(_only(rows, held_out_N), folder / HOLDOUT)


def training_queries(run: RankerRun, stages: TwoStage) -> EvalExamples:
    """What the ranker learns from: the validation part, as a live system would have been asked.

    Under a global-time split a query for each day on which a known user came back; else the one query
    per user of the validation part.
    """
    dataset, split = stages.data.dataset, stages.data.split
    if run.data.split != "global-time":
        return eval_examples(dataset, split, "validation")[0]
    times_N = dataset.timestamps_N[split.validation_N]
    known_U = np.bincount(dataset.user_ids_N[split.train_N], minlength=dataset.num_users) > 0
    return day_queries(stages.log, int(times_N[0]), int(times_N[-1]) + 1, users_U=known_U)


def _held_out(user_ids_N: np.ndarray, run: RankerRun) -> np.ndarray:
    """Rows of a seeded share of the users: whole users, because a user's days resemble each other."""
    users = np.unique(user_ids_N)
    count = round(run.held_out * len(users))
    return np.isin(user_ids_N, np.random.default_rng(run.seed).choice(users, count, replace=False))


def _only(rows: RankingExamples, mask_N: np.ndarray) -> RankingExamples:
    return RankingExamples(*(values[mask_N] for values in rows))


def train_trees(task: RankerTask, context: Context) -> None:
    """Boosts on this worker's queries; rank 0's checkpoint is the ranker."""

    def share(name: str) -> RankingExamples:
        return load_examples(task.folder / name, context.rank, context.world_size)

    held_out = share(HOLDOUT) if task.run.held_out else None
    ranker = train_boosted(share(TRAIN), task.run.gbdt, evaluation=held_out, rank=context.rank)
    folder = task.folder / f"worker-{context.rank}"
    folder.mkdir(exist_ok=True)
    if context.rank == 0:
        ranker.save(folder / RANKERS["gbdt"])
    best = {name: max(values) for name, values in ranker.curve.items()}
    context.report({**best, "trees": float(ranker.num_trees)}, folder)


class TwoStageResult(NamedTuple):
    """The same queries, ordered by the first stage and by both."""

    retriever: Evaluation
    ranker: Evaluation


def evaluate_two_stage(stages: TwoStage, ranker: Scorer, ks: Sequence[int] = (10,)) -> TwoStageResult:
    """Full-ranking metrics on the test part: the retriever's own order, and the ranker's."""
    data = stages.data
    examples, card = eval_examples(data.dataset, data.split, "test")
    counts_I = item_counts(data.dataset, data.split.train_N)
    return TwoStageResult(
        evaluate(stages.score_items, examples, card, counts_I, ks=ks),
        evaluate(lambda q: stages.ranked_by(ranker, q), examples, card, counts_I, ks=ks),
    )


def publish_ranker(
    run: RankerRun, stages: TwoStage, ranker: Scorer, result: TwoStageResult, store: Store
) -> Bundle:
    """Publishes the ranker with the events its features look into; it requires its retriever by digest."""
    return store.publish(
        bundle_name(stages.data.dataset, "ranker"),
        lambda folder: write_ranker(folder, run.ranker, ranker, stages.log, run.candidates),
        model=run.ranker,
        config={
            run.ranker: to_dict(run.gbdt if run.ranker == "gbdt" else run.dlrm),
            "candidates": to_dict(run.candidates),
        },
        card=result.ranker.card,
        metrics=result.ranker.means(),
        requires={"retriever": stages.bundle.reference},
    )
