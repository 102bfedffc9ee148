"""The ranking stage: what orders a published retriever's candidates by point-in-time features."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, TypeVar

import numpy as np
from torch import nn

from recray import checkpoint
from recray.bundles.freshness import ranges_of, write_ages, write_ranges
from recray.bundles.naming import bundle_name
from recray.bundles.ranker import RANKERS, write_ranker
from recray.bundles.reference import catalogue_of, write_reference
from recray.config import ConfigError, override, to_dict
from recray.contract import Scorer
from recray.data.batches.rows import MemoryRows
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.split_data import DataConfig
from recray.data.row_block import RowBlock
from recray.data.rows.tally import PartTally
from recray.eval.evaluate import evaluate
from recray.eval.sessions import session_ndcg
from recray.eval.two_stage import MeasuredStages
from recray.features.examples import (
    RankingExamples,
    load_examples,
)
from recray.models.dlrm import DLRM, DLRMConfig
from recray.models.dlrm_ranker import ITEM, DLRMRanker, ranker_schema
from recray.models.gbdt import GBDTConfig, GBDTRanker
from recray.ops.embedding_bags import Placement
from recray.recipes.ages import measure_ages
from recray.recipes.dlrm import set_dense_stats
from recray.recipes.own_lists import own_lists
from recray.recipes.ranking_data import HOLDOUT, TRAIN, RankerData, RankerRun, training_queries
from recray.recipes.two_stage import TwoStage
from recray.schema import Learnt, RowSchema
from recray.store import Draft
from recray.train.boosted import train_boosted
from recray.train.context import Context
from recray.train.loop import LoopConfig, Sums, fit
from recray.train.optim import OptimConfig
from recray.train.refit import Continued, going_on
from recray.train.run import DataFacts, Measured, Part, Presets, Recipe

log = logging.getLogger(__name__)
SMALL_DLRM = DLRMConfig(embedding_dim=8, bottom=(64,), top=(64, 32), loss="lambdarank")


@dataclass(frozen=True, kw_only=True)
class GBDTRankerRun(RankerRun):
    """Train XGBoost's trees on the candidates of a published retriever."""

    model: GBDTConfig = field(default_factory=GBDTConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.early_stopping_rounds and not self.holdout:
            raise ConfigError("model.early_stopping_rounds needs users to go by: set holdout, such as 0.2")


@dataclass(frozen=True, kw_only=True)
class DLRMRankerRun(RankerRun):
    """Train a DLRM on the candidates of a published retriever: the same features as trees have."""

    model: DLRMConfig = field(default_factory=lambda: SMALL_DLRM)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-3))
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=30, batch_size=64, patience=3))
    continued: Continued = field(default_factory=Continued)
    holdout: float = 0.1
    """Share of the users that it does not train on and stops by."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.continued.require(self.refit)
        if not self.holdout:
            raise ConfigError("a DLRM stops by users that it does not train on: set holdout, for example 0.1")


def measure_stages(
    stages: TwoStage, ranker: Scorer, part: Part = "test", ks: Sequence[int] = (10,)
) -> MeasuredStages:
    """Full-ranking metrics on a part: the retriever's own order, and the ranker's."""
    data = stages.data
    examples, card = eval_examples(data.dataset, data.split, part)
    counts_I = item_counts(data.dataset, data.split.train_N)
    return MeasuredStages(
        evaluate(stages.score_items, examples, card, counts_I, ks=ks),
        evaluate(lambda q: stages.ranked_by(ranker, q), examples, card, counts_I, ks=ks),
        measure_ages(stages, ranker, part),
    )


R = TypeVar("R", GBDTRankerRun, DLRMRankerRun)
M = TypeVar("M")


class RankerRecipe(Recipe[R, RankerData, M]):
    """From a published retriever to a ranker that requires it by digest."""

    model_name: ClassVar[str]

    quantize: ClassVar[bool] = False
    """Whether features take few values, see ``features.examples.quantized``."""

    def open(self, run: R) -> RankerData:
        return RankerData(run, quantize=self.quantize)

    def learns_before_serving(self, run: R) -> bool:
        return run.refit

    def learning(self, run: R, data: RankerData, learn: Learnt) -> RankerData:
        return RankerData(run, quantize=self.quantize, learn=learn, before=data)

    @abstractmethod
    def scorer(self, run: R, data: RankerData, model: M) -> Scorer:
        """What orders candidates, and is published."""

    def facts(self, data: RankerData) -> DataFacts:
        card = data.bundle.manifest.card
        assert card is not None
        text = f"{data.num_queries:,} ranking queries from the candidates of {data.bundle.reference}"
        learnt = data.stages.data.learning("before test" if data.learn == "training" else "all")
        return DataFacts(card.dataset, card.dataset_hash, text, learnt.until())

    def exact(self, run: R, data: RankerData) -> R:
        retriever = data.bundle.reference
        return override(run, {"retriever": retriever.name, "retriever_version": str(retriever.version)})

    def measure(self, run: R, data: RankerData, model: M, part: Part = "test") -> MeasuredStages:
        log.info("measuring both stages on the %s part", part)
        return measure_stages(data.stages, self.scorer(run, data, model), part)

    def draft(self, run: R, data: RankerData, model: M, measured: Measured) -> Draft:
        """With the events that its features look into."""
        ranker = self.scorer(run, data, model)

        def write(folder: Path) -> None:
            write_ranker(folder, self.model_name, ranker, data.stages.log, run.candidates)
            learnt = load_examples(data.folder / TRAIN)
            write_ranges(folder, ranges_of(learnt.feature_names, learnt.features_NF))
            lists = own_lists(data.stages, ranker, training_queries(run, data.stages, data.learn))
            write_reference(folder, lists, catalogue_of(data.bundle))
            if isinstance(measured, MeasuredStages):
                write_ages(folder, measured.ages)

        return Draft(
            name=bundle_name(self.facts(data).name, "ranker"),
            write=write,
            model=self.model_name,
            config={self.model_name: to_dict(run.model), "candidates": to_dict(run.candidates)},
            card=measured.card,
            metrics=measured.means(),
            requires={"retriever": data.bundle.reference},
        )


class Forest:
    """Trees are grown in one go: there are none before."""

    ranker: GBDTRanker | None = None


class GBDTRankerRecipe(RankerRecipe[GBDTRankerRun, Forest]):
    """Boosts on each worker's queries; rank 0's checkpoint is the ranker."""

    communicator = "xgboost"
    model_name = "gbdt"
    quantize = True

    def default(self, dataset: str) -> GBDTRankerRun:
        return GBDTRankerRun(data=DataConfig(dataset=dataset))

    def again(self, run: GBDTRankerRun, epochs: int) -> GBDTRankerRun:
        return override(run, {"model.rounds": epochs, "model.early_stopping_rounds": 0})

    def new(self, run: GBDTRankerRun, data: RankerData, context: Context = Context()) -> Forest:  # noqa: B008
        return Forest()

    def fit(self, run: GBDTRankerRun, data: RankerData, model: Forest, context: Context) -> None:
        def share(file: str) -> RankingExamples:
            return load_examples(data.folder / file, context.rank, context.world_size)

        held_out = share(HOLDOUT) if data.has_holdout else None
        model.ranker = train_boosted(share(TRAIN), run.model, evaluation=held_out, rank=context.rank)
        with TemporaryDirectory(prefix="recray-checkpoint-") as name:
            if context.rank == 0:
                model.ranker.save(Path(name) / RANKERS[self.model_name])
            best = {metric: max(values) for metric, values in model.ranker.curve.items()}
            context.report({**best, "epoch": float(model.ranker.num_trees)}, Path(name))

    def restore(self, run: GBDTRankerRun, data: RankerData, folder: Path) -> Forest:
        model = Forest()
        model.ranker = GBDTRanker.load(folder / RANKERS[self.model_name])
        return model

    def scorer(self, run: GBDTRankerRun, data: RankerData, model: Forest) -> Scorer:
        assert model.ranker is not None, "no tree was grown"
        return model.ranker


class DLRMRankerRecipe(RankerRecipe[DLRMRankerRun, DLRM]):
    """Trains on the training queries and validates, by NDCG@10, on those of the users held out."""

    model_name = "dlrm"

    def default(self, dataset: str) -> DLRMRankerRun:
        return DLRMRankerRun(data=DataConfig(dataset=dataset))

    def again(self, run: DLRMRankerRun, epochs: int) -> DLRMRankerRun:
        return override(run, {"loop.stop_after": epochs})

    def continued(self, run: DLRMRankerRun) -> DLRMRankerRun | None:
        return going_on(run, {"model.embedding.lr": run.model.embedding.lr})

    def loop(self, run: DLRMRankerRun) -> LoopConfig:
        return run.loop

    def new(self, run: DLRMRankerRun, data: RankerData, context: Context = Context()) -> DLRM:  # noqa: B008
        placement = Placement(context.rank, context.world_size, context.device)
        return DLRM(run.model, self.schema(run, data), placement, seed=run.seed)

    def schema(self, run: DLRMRankerRun, data: RankerData) -> RowSchema:
        """The features that it goes by, and the item itself."""
        return ranker_schema(data.feature_names, data.num_items)

    def fit(self, run: DLRMRankerRun, data: RankerData, model: DLRM, context: Context) -> None:
        train = _rows(data, TRAIN)
        tally = PartTally(len(train.schema.dense))
        tally.add(train)
        set_dense_stats(model, tally.dense_stats(train.schema))
        model.set_dense_rows(train.dense_NF)
        fit(
            model,
            MemoryRows(train, run.loop.batch_size, run.seed),
            _ndcg_of(_rows(data, HOLDOUT), context) if data.has_holdout else lambda _: {},
            config=run.loop,
            optim=run.optim,
            context=context,
            seed=run.seed,
            data=f"ranking examples {data.folder.name}",
        )

    def restore(self, run: DLRMRankerRun, data: RankerData, folder: Path) -> DLRM:
        model = self.new(run, data)
        checkpoint.load_model(folder, model)
        return model.eval()

    def scorer(self, run: DLRMRankerRun, data: RankerData, model: DLRM) -> Scorer:
        return DLRMRanker(model, run.model, self.schema(run, data))


def _ndcg_of(held_out: RowBlock, context: Context) -> Callable[[nn.Module], Sums]:
    """This rank's share of the NDCG@10 of the queries held out."""
    all_at_once = MemoryRows(held_out, held_out.num_units, shuffle=False)
    whole = all_at_once.batch(0, 0, context.rank, context.world_size)
    assert whole.offsets_S is not None
    grades_N, offsets_S = whole.labels_B.double().numpy(), whole.offsets_S.numpy()
    batch = whole.to(context.device)

    def validate(model: nn.Module) -> Sums:
        assert isinstance(model, DLRM)
        scores_N = model.score(batch).double().cpu().numpy()
        ndcg_S = session_ndcg(scores_N, grades_N, offsets_S, (10,))["ndcg@10"]
        return {"ndcg@10": (float(np.nansum(ndcg_S)), float((~np.isnan(ndcg_S)).sum()))}

    return validate


def _rows(data: RankerData, file: str) -> RowBlock:
    """All examples of a file, a query's rows a session."""
    examples = load_examples(data.folder / file)
    starts = np.flatnonzero(np.diff(examples.query_ids_N, prepend=-1))
    ids = {ITEM: (examples.item_ids_N + 1).astype(np.int32)}
    offsets_S = np.append(starts, len(examples.labels_N)).astype(np.int64)
    schema = ranker_schema(examples.feature_names, data.num_items)
    return RowBlock(schema, examples.features_NF, ids, examples.labels_N, offsets_S)


_GENERATED = "on the retriever of the generated data"
_GBDT: Presets[GBDTRankerRun] = {"synthetic": (_GENERATED, GBDTRankerRun())}
_DLRM: Presets[DLRMRankerRun] = {"synthetic": (_GENERATED, DLRMRankerRun())}
GBDT_RANKER = GBDTRankerRecipe("gbdt_ranker", _GBDT, "boosted trees over candidates (XGBoost, rank:ndcg)")
DLRM_RANKER = DLRMRankerRecipe("dlrm_ranker", _DLRM, "a DLRM over candidates, by LambdaRank")
