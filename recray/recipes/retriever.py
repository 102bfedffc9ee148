"""What every retriever's life has in common: its data, how it is measured, and what a version of it holds."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from recray import models
from recray.batch import EvalExamples, QueryBatch
from recray.bundles.index import with_vectors
from recray.bundles.naming import bundle_name
from recray.bundles.retriever import RetrieverFiles, write_retriever
from recray.config import ELASTIC, Config, ConfigError, override, to_dict
from recray.contract import ForgetsItems, HoldsRows, ReadsSideFeatures, Retriever
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.log import event_log
from recray.data.events.prepare import prepared_manifest
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.eval.evaluate import Evaluation, evaluate, sums
from recray.eval.generated import GeneratedScores, measurable
from recray.eval.metrics import check_ks, require_metric
from recray.ops.ann import IndexConfig
from recray.schema import Learnt, Schema
from recray.store import Draft
from recray.train.context import Context
from recray.train.loop import BatchSource, LoopConfig, Sums, fit
from recray.train.optim import OptimConfig, fitted_to
from recray.train.refit import Continued, going_on
from recray.train.run import DataFacts, Measured, Part, TorchRecipe, Unmeasured, require_seed

MANY_USERS, VALIDATION_USERS = 20_000, 5_000  # where validation looks at a sample, and how large it is


@dataclass(frozen=True, kw_only=True)
class RetrieverRun:
    """What every retriever's run says."""

    data: DataConfig = field(default_factory=DataConfig)
    ks: tuple[int, ...] = field(default=(10,), metadata={ELASTIC: True})
    """List lengths that it is measured at; longer ones than the catalogue are the whole catalogue."""
    index: IndexConfig = field(default_factory=IndexConfig, metadata={ELASTIC: True})
    """Of the item vectors that are published; of no use to models without any."""
    refit: bool = True
    """Once it was measured on the split, train again on everything, for as long as validation chose: what is
    served has learnt the newest day, and the metrics are those of the split."""
    seed: int = 0
    """Of all that is drawn at random: initial weights, order of the data, negatives, dropout."""

    def __post_init__(self) -> None:
        require_seed(self.seed)
        check_ks(self.ks)


@dataclass(frozen=True, kw_only=True)
class GradientRun(RetrieverRun):
    """A retriever that is trained step by step."""

    further_metrics: ClassVar[tuple[str, ...]] = ("auc",)
    """What validation measures beside lists."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    continued: Continued = field(default_factory=Continued)
    validation_users: int = 0
    """Users that validation looks at, drawn once by the seed; 0: all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.continued.require(self.refit)
        require_metric(self.loop.metric, self.further_metrics)
        if self.validation_users < 0:
            raise ConfigError(f"validation_users must not be negative, got {self.validation_users}")


@dataclass(frozen=True)
class DataSize:
    """What defaults go by."""

    users: int
    items: int
    interactions: int

    @property
    def mean_length(self) -> float:
        """Interactions of a user, on average."""
        return self.interactions / max(1, self.users)

    @property
    def validation_users(self) -> int:
        return VALIDATION_USERS if self.users > MANY_USERS else 0


class ModelRun(Config, Protocol):
    """A ``RetrieverRun`` with a model of its own."""

    @property
    def data(self) -> DataConfig: ...

    @property
    def model(self) -> Config: ...

    @property
    def ks(self) -> tuple[int, ...]: ...

    @property
    def index(self) -> IndexConfig: ...

    @property
    def refit(self) -> bool: ...

    @property
    def seed(self) -> int: ...


class StepsRun(ModelRun, Protocol):
    """A ``GradientRun`` with a model of its own."""

    @property
    def optim(self) -> OptimConfig: ...

    @property
    def loop(self) -> LoopConfig: ...

    @property
    def continued(self) -> Continued: ...

    @property
    def validation_users(self) -> int: ...


R = TypeVar("R", bound=ModelRun)
G = TypeVar("G", bound=StepsRun)
S = TypeVar("S", bound=SplitData)


@dataclass(frozen=True)
class RetrieverRecipe(TorchRecipe[R, S, nn.Module]):
    """A retriever on one prepared data set; families say what it learns from."""

    ranks_catalogue = True

    sized: Callable[[DataSize], R]
    """The model's own defaults at that size, for a data set that is named later."""
    kind: str = ""
    """The model's name in ``recray.models``; empty: the recipe's."""

    @property
    def model_name(self) -> str:
        return self.kind or self.name

    def default(self, dataset: str) -> R:
        m = prepared_manifest(dataset)
        return override(
            self.sized(DataSize(m.num_users, m.num_items, m.num_interactions)), {"data.dataset": dataset}
        )

    def facts(self, data: S) -> DataFacts:
        return DataFacts(data.dataset.name, data.dataset.hash, data.sizes(), data.until())

    def reads_side_features(self, run: R) -> bool:
        return False

    def schema(self, run: R, data: S) -> Schema:
        """What the model is built for."""
        return data.side.schema if self.reads_side_features(run) else data.bare_schema

    def model_config(self, run: R, data: S) -> Config:
        """The model's settings as they hold on this data: what it is built with, and published with."""
        return run.model

    def parts(self, run: R, context: Context) -> tuple[object, ...]:
        """What this worker's model is made with beside its config and schema."""
        return ()

    def new(self, run: R, data: S, context: Context = Context()) -> nn.Module:  # noqa: B008 - frozen
        schema = self.schema(run, data)
        torch.manual_seed(run.seed)
        parts = self.parts(run, context)
        model = models.build(self.model_name, self.model_config(run, data), schema, *parts)
        if self.reads_side_features(run):
            assert isinstance(model, ReadsSideFeatures)
            model.set_side_features(data.side.tables)
            forget_untrained(model, data)
        return model

    def restore(self, run: R, data: S, folder: Path) -> nn.Module:
        """An item without training events is known by its side features alone, if at all."""
        model = super().restore(run, data, folder)
        forget_untrained(model, data)
        return model

    def measure(self, run: R, data: S, model: nn.Module, part: Part = "test") -> Measured:
        if run.data.split == "all":
            return Unmeasured()
        return evaluate_retriever(as_retriever(model), data, part, run.ks)

    def learns_before_test(self, run: R) -> bool:
        return run.data.known == "everything" and run.data.split != "all"

    def learns_before_serving(self, run: R) -> bool:
        return run.refit and run.data.split != "all"

    def again(self, run: R, epochs: int) -> R:
        return run

    def learning(self, run: R, data: S, learn: Learnt) -> S:
        return data.learning(learn)

    def draft(self, run: R, data: S, model: nn.Module, measured: Measured) -> Draft:
        """With it: what users did, for what they have seen and for models that read it; item vectors and an
        index, if it has vectors; all users' query vectors, if they depend on the user id alone."""
        trained_users_N = data.dataset.user_ids_N[data.split.learnt_N]
        bare = RetrieverFiles(
            users=data.dataset.users,
            items=data.dataset.items,
            item_counts_I=item_counts(data.dataset, data.split.train_N),
            item_ID=None,
            user_UD=None,
            index=None,
            log=event_log(data.dataset),
            user_counts_U=np.bincount(trained_users_N, minlength=data.dataset.num_users),
        )
        files, recall = with_vectors(model, bare, run.index)
        return Draft(
            name=bundle_name(data.dataset.name, self.name),
            write=lambda folder: write_retriever(folder, model, files),
            model=self.model_name,
            config=to_dict(self.model_config(run, data)),
            schema=self.schema(run, data),
            card=measured.card,
            metrics={**measured.means(), **recall},
        )


class SplitRecipe(RetrieverRecipe[R, SplitData]):
    """A retriever that needs nothing but a data set and its split."""

    def open(self, run: R) -> SplitData:
        return open_split(run.data)


class GradientRecipe(RetrieverRecipe[G, S]):
    """A retriever that the one training loop trains; families say in which batches."""

    @abstractmethod
    def batches(self, run: G, data: S) -> BatchSource: ...

    def loop(self, run: G) -> LoopConfig:
        return run.loop

    def again(self, run: G, epochs: int) -> G:
        return override(run, {"loop.stop_after": epochs})

    def continued(self, run: G) -> G | None:
        return going_on(run)

    def validation(self, run: G, data: S, context: Context) -> Callable[[nn.Module], Sums]:
        return validation(data, context, run.loop.metric, users=run.validation_users, seed=run.seed)

    def identity(self, run: G, data: S) -> str:
        """What the batches are made of: a run is not resumed on other data."""
        return f"{data.dataset.name} {data.dataset.hash[:12]}"

    def fit(self, run: G, data: S, model: nn.Module, context: Context) -> None:
        """Trains on the training part, validates on the validation part; see ``train.loop.fit``."""
        batches = self.batches(run, data)
        fit(
            model,
            batches,
            self.validation(run, data, context),
            config=run.loop,
            optim=fitted_to(run.optim, run.loop.epochs * batches.num_steps()),
            context=context,
            seed=run.seed,
            data=self.identity(run, data),
        )


def forget_untrained(model: nn.Module, data: SplitData) -> None:
    """What the model's initial weights say of items that the training part does not have."""
    if isinstance(model, ForgetsItems):
        counts_I = item_counts(data.dataset, data.split.learnt_N)
        model.forget_items(torch.from_numpy(np.flatnonzero(counts_I == 0)))


def evaluate_retriever(
    model: Retriever, data: SplitData, part: Part = "test", ks: Sequence[int] = (10,)
) -> Evaluation:
    """Full-ranking metrics of a retriever on one part of the split."""
    examples, card = eval_examples(data.dataset, data.split, part)
    counts_I = item_counts(data.dataset, data.split.train_N)
    scored = measurable(model, data.dataset.num_items, max(ks), data.split.seen)
    evaluation = evaluate(_known_users(scored.score_items, data), examples, card, counts_I, ks=ks)
    if not isinstance(scored, GeneratedScores):
        return evaluation
    # Beyond the list the order is unknown: an area under it would not be the model's.
    per_query = {name: values_U for name, values_U in evaluation.per_query.items() if name != "auc"}
    scalars = {**evaluation.scalars, "exact_share": scored.exact_share()}
    return replace(evaluation, per_query=per_query, scalars=scalars)


def validation(
    data: SplitData, context: Context, metric: str = "ndcg@10", *, users: int = 0, seed: int = 0
) -> Callable[[nn.Module], Sums]:
    """This rank's share of the validation metrics: users are dealt out in contiguous blocks.

    Args:
        metric: lists are as long as it asks for.
        users: as many are drawn, once, by the seed; 0: all of them.

    Where no validation part is held out, nothing is measured.
    """
    if not data.split.validation_N.any():
        return lambda _: {}
    examples, card = eval_examples(data.dataset, data.split, "validation", most_users=users, seed=seed)
    mine = _share(examples, context)
    counts_I = item_counts(data.dataset, data.split.train_N)
    k = int(length) if (length := metric.partition("@")[2]) else 10

    def validate(model: nn.Module) -> Sums:
        if isinstance(model, HoldsRows):
            model.hold(mine.queries)
        scored = measurable(as_retriever(model), data.dataset.num_items, k, data.split.seen)
        score_items = _known_users(_on(context.device, scored), data)
        return sums(evaluate(score_items, mine, card, counts_I, ks=(k,)))

    return validate


def as_retriever(model: nn.Module) -> Retriever:
    """The same module, to be asked for scores."""
    assert isinstance(model, Retriever), type(model).__name__
    return model


def _known_users(
    score_items: Callable[[QueryBatch], Tensor], data: SplitData
) -> Callable[[QueryBatch], Tensor]:
    """The same, for which users whose events weigh nothing are unknown: as they are when served."""
    if data.weights_N is None:
        return score_items
    taught = data.dataset.user_ids_N[data.split.learnt_N]
    is_known_U = torch.from_numpy(np.bincount(taught, minlength=data.dataset.num_users) > 0)

    def scores(queries: QueryBatch) -> Tensor:
        users_B = torch.where(is_known_U[queries.user_ids_B], queries.user_ids_B, -1)
        return score_items(queries._replace(user_ids_B=users_B))

    return scores


def _on(device: torch.device, model: Retriever) -> Callable[[QueryBatch], Tensor]:
    """``model.score_items`` for queries that lie on the CPU."""
    return lambda queries: model.score_items(queries.to(device))


def _share(examples: EvalExamples, context: Context) -> EvalExamples:
    count = len(examples.queries.user_ids_B)
    start = count * context.rank // context.world_size
    stop = count * (context.rank + 1) // context.world_size
    return EvalExamples(examples.queries.slice(start, stop), examples.targets.slice(start, stop))
