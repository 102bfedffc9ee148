"""What a ranker learns from: examples made of a published retriever's candidates, prepared once, as data.

The ranker learns from the validation part, which the retriever never saw: on the training part the
retriever's scores look better than they will ever be. Fitted again, once it was measured, it learns from the
test part too; the candidates stay those of the retriever that was measured. The workers, and whoever trains
on the same examples again, read the same files.
"""

import json
import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recray import __version__, paths
from recray.arrays import Int64s
from recray.batch import EvalExamples
from recray.bundles.naming import bundle_name
from recray.config import ConfigError, to_dict
from recray.data.events.examples import Target, eval_examples
from recray.data.events.prepare import prepared_manifest
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.data.logged.rows import LoggedConfig, LoggedLists, logged_lists
from recray.data.sources import data_name
from recray.eval.ages import seconds
from recray.features.candidates import CandidateConfig
from recray.features.examples import (
    RankingExamples,
    feature_names_of,
    joined,
    quantized,
    ranking_examples,
    save_examples,
)
from recray.features.items import Columns
from recray.features.queries import day_queries
from recray.features.ranking import FEATURES, check_names, chosen
from recray.features.ranking.context import SAID
from recray.folders import build_once, digest
from recray.recipes.two_stage import TwoStage
from recray.schema import FeatureSchema, Learnt, SemanticSchema
from recray.store import Bundle, Store
from recray.train.run import require_seed

log = logging.getLogger(__name__)
TRAIN, HOLDOUT = "train.parquet", "holdout.parquet"
QUERIES = "queries.json"


@dataclass(frozen=True, kw_only=True)
class RankerRun:
    """What every ranker's run says."""

    data: DataConfig = field(default_factory=DataConfig)
    retriever: str = ""
    """Bundle name of the retriever; empty: "<dataset>-two_tower"."""
    retriever_version: str = "latest"
    """Its version: a number, a name such as production, or latest."""
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    features: tuple[str, ...] = ()
    """Names of the ranking features that the ranker is to go by; none: all that the catalogue has."""
    context: tuple[str, ...] = ()
    """Fields of a request's context to go by besides: `market=de` is 1 where a request says so and 0 where it
    says another value, `basket` a number; missing where it says nothing. Lists that were shown teach them."""
    negatives: int = 50
    """Candidates that were not chosen kept per training query; 0 keeps all."""
    holdout: float = 0.0
    """Share of the users kept for early stopping; 0: trains on all."""
    logged: LoggedConfig = field(default_factory=LoggedConfig)
    """Lists that an application showed, with the features that were served, to learn from as well."""
    served_lag: str = "0s"
    """How old a log it may be served with, as in 30d: examples are told of less, by up to so much. Measure:
    30d helps on ml-1m and harms on ml-100k (docs/LOG.md)."""
    refit: bool = True
    """Once it was measured, train again on the test part's queries too, for as long as was chosen: what is
    served has learnt the newest day."""
    seed: int = 0
    """Of the negatives, the users held out, and a network's weights and order of data."""

    def __post_init__(self) -> None:
        check_names(self.names)
        if self.context and not self.logged.folder:
            raise ConfigError(
                f"context: only lists that were shown say {', '.join(self.context)}: name their folder with "
                "logged.folder (`recray feedback` makes it)"
            )
        seconds(self.served_lag)
        require_seed(self.seed)
        if self.data.known != "history" or self.data.weights != "equal":
            raise ConfigError(
                "a ranker learns from the validation part, where all that is to be found counts alike: set "
                f"data.known to history and data.weights to equal, got {self.data.known} and "
                f"{self.data.weights}"
            )
        if not 0 <= self.holdout < 1:
            raise ConfigError(f"holdout must be at least 0 and below 1, got {self.holdout}")
        if self.negatives < 0:
            raise ConfigError(f"negatives must not be negative, got {self.negatives}")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features that it names itself."""
        return (*self.features, *(SAID + name for name in self.context))

    def names_of(self, columns: Columns) -> tuple[str, ...]:
        """Of all features that it goes by where the items have these columns."""
        return chosen((*chosen(self.features, columns), *self.names[len(self.features) :]), columns)


class RankerData:
    """What a ranker learns from: examples in a folder, and the retriever whose candidates they are.

    A worker needs the examples alone, so the rest is opened when it is first asked for.
    """

    def __init__(
        self,
        run: RankerRun,
        *,
        quantize: bool,
        learn: Learnt = "training",
        before: "RankerData | None" = None,
    ) -> None:
        """
        Args:
            learn: "training" is the validation part here, "all" the test part too.
            before: the same run's, which may have opened the retriever already.

        Raises:
            ConfigError: the retriever is not in the store, is none, or was trained under another protocol.
        """
        self.run, self.learn, self._before = run, learn, before
        self.bundle: Bundle = before.bundle if before else _retriever_bundle(run)
        schema = self.bundle.manifest.schema
        assert isinstance(schema, FeatureSchema | SemanticSchema)
        self.num_items = schema.num_items
        said = {
            "code": __version__,
            "data": to_dict(run.data),
            "learn": learn,
            "data_hash": prepared_manifest(run.data.dataset, k_core=run.data.k_core).hash,
            "retriever": self.bundle.reference.digest,
            "candidates": to_dict(run.candidates),
            "seed": run.seed,
            "negatives": run.negatives,
            "served_lag": run.served_lag,
            "holdout": run.holdout,
            "features": run.features or tuple(FEATURES),  # and those of its columns, which the data says
            "quantized": quantize,
            **({"logged": to_dict(run.logged), "context": run.context} if run.logged.folder else {}),
        }
        self.folder = paths.runs_dir() / "examples" / f"{self.bundle.manifest.name}-{digest(said)}"
        build_once(self.folder, lambda _: True, lambda target, _: _write_examples(self, target, quantize))

    @cached_property
    def stages(self) -> TwoStage:
        if self._before:
            return self._before.stages
        self.bundle.verify()
        return TwoStage(self.bundle, open_split(self.run.data), self.run.candidates)

    @property
    def has_holdout(self) -> bool:
        """Whether some users are kept to go by: not where the length is chosen already."""
        return bool(self.run.holdout) and self.learn == "training"

    @property
    def num_queries(self) -> int:
        count: int = json.loads((self.folder / QUERIES).read_text())["queries"]
        return count

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Of the examples' columns."""
        return feature_names_of(self.folder / TRAIN)


def _retriever_bundle(run: RankerRun) -> Bundle:
    store = Store()
    name = run.retriever or bundle_name(data_name(run.data.dataset), "two_tower")
    if not run.retriever and name not in store.applications():
        raise ConfigError(
            f"no {name!r} in the store: train and publish it first with `recray train two_tower`, or name "
            "another retriever with --retriever"
        )
    bundle = store.open(name, run.retriever_version)
    if not isinstance(bundle.manifest.schema, FeatureSchema | SemanticSchema):
        raise ConfigError(f"{bundle.reference} is a {bundle.manifest.model!r}, not a retriever")
    if bundle.manifest.card and bundle.manifest.card.known == "everything":
        raise ConfigError(
            f"{bundle.reference} was measured when it had learnt the validation part (known everything), "
            "which a ranker learns from: train the retriever with known at history or training"
        )
    return bundle


def _write_examples(data: RankerData, folder: Path, quantize: bool) -> None:
    """Ranking examples of the held-out parts, as files that workers read their queries from."""
    run, stages = data.run, data.stages
    log.info("ranking examples from the candidates of %s", data.bundle.reference)
    asked = training_queries(run, stages, data.learn)
    rows = joined(
        [_examples_of(part, run, stages) for part in asked], [len(part.queries.user_ids_B) for part in asked]
    )
    users_B = np.concatenate([part.queries.user_ids_B.numpy() for part in asked])
    users_N = users_B[rows.query_ids_N]
    held_out = _held_out(users_N, run) if data.has_holdout else users_B[:0]
    if run.logged.folder:
        measured_by = _shown(run, stages.data, rows.feature_names, "training")
        shown = measured_by
        if data.learn != "training":
            shown = _shown(run, stages.data, rows.feature_names, data.learn)
        log.info("and from %d lists that were shown", len(shown.user_ids_Q))
        of_shown_N = shown.user_ids_Q[shown.examples.query_ids_N]
        # What is served learns as what was measured did, or the figures would be of another model.
        if run.logged.alone and len(measured_by.user_ids_Q) >= run.logged.least:
            rows, users_N = shown.examples, of_shown_N
        else:
            rows = joined([rows, shown.examples], [len(users_B), len(shown.user_ids_Q)])
            users_N = np.concatenate([users_N, of_shown_N])
    held_out_N = np.isin(users_N, held_out)
    if data.has_holdout:
        save_examples(rows.select(held_out_N), folder / HOLDOUT)
    train = rows.select(~held_out_N)
    # Quantised before it is dealt out: the trees are then the same for any number of workers.
    save_examples(quantized(train) if quantize else train, folder / TRAIN)
    (folder / QUERIES).write_text(json.dumps({"queries": len(np.unique(rows.query_ids_N))}))


def _examples_of(asked: EvalExamples, run: RankerRun, stages: TwoStage) -> RankingExamples:
    return ranking_examples(
        stages.log,
        asked.queries,
        stages.candidates(asked.queries),
        asked.targets,
        run.names_of(stages.log.columns),
        negatives=run.negatives or None,
        lag_s=seconds(run.served_lag),
        seed=run.seed,
    )


def training_queries(run: RankerRun, stages: TwoStage, learn: Learnt) -> list[EvalExamples]:
    """What the ranker learns from, part by part: what was held out, as a live system would have been asked.

    Under a global-time split a query for each day on which a known user came back, if all that happened then
    is to be found and was not seen; else the one query per user of the part.
    """
    dataset, split = stages.data.dataset, stages.data.split
    parts: tuple[Target, ...] = ("validation",) if learn == "training" else ("validation", "test")
    chosen_few = split.relevant_N is not None or split.seen == "keep"
    if run.data.split != "global-time" or chosen_few:
        return [eval_examples(dataset, split, part)[0] for part in parts]
    part_N = split.validation_N | split.test_N if "test" in parts else split.validation_N
    times_N = dataset.timestamps_N[part_N]
    known_U = np.bincount(dataset.user_ids_N[split.train_N], minlength=dataset.num_users) > 0
    return [day_queries(stages.log, int(times_N[0]), int(times_N[-1]) + 1, users_U=known_U)]


def _shown(run: RankerRun, data: SplitData, feature_names: tuple[str, ...], learn: Learnt) -> LoggedLists:
    """Logged lists; before the test part was learnt, only what was known before it began: for each user of
    leave-one-out, else for all at once."""
    dataset, test_N = data.dataset, data.split.test_N
    known: dict[str, Any] = {}
    if learn == "training" and test_N.any():
        times_N = np.where(test_N, dataset.timestamps_N, np.inf)
        known = {"before": float(times_N.min())}
        if run.data.split == "leave-one-out":
            before_U = np.full(dataset.num_users, np.inf)
            np.minimum.at(before_U, dataset.user_ids_N, times_N)
            known = {"before_U": before_U}
    raw_ids = dataset.users["raw_id"], dataset.items["raw_id"]
    return logged_lists(run.logged, feature_names, *raw_ids, **known, seed=run.seed)


def _held_out(user_ids_N: Int64s, run: RankerRun) -> Int64s:
    """A seeded share of the users: whole users, because a user's days resemble each other."""
    users = np.unique(user_ids_N)
    count = round(run.holdout * len(users))
    chosen_few: Int64s = np.random.default_rng(run.seed).choice(users, count, replace=False)
    return chosen_few
