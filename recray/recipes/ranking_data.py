"""What a ranker learns from: examples made of a published retriever's candidates, prepared once, as data.

The ranker learns from the validation part, which the retriever never saw: on the training part the
retriever's scores look better than they will ever be. The workers, and whoever trains on the same examples
again, read the same files.
"""

import json
import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from recray import __version__, paths
from recray.arrays import Bools, Int64s
from recray.batch import EvalExamples
from recray.bundles.naming import bundle_name
from recray.config import ConfigError, to_dict
from recray.data.events.examples import eval_examples
from recray.data.events.prepare import prepared_manifest
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.data.sources import data_name
from recray.features.candidates import CandidateConfig
from recray.features.examples import quantized, ranking_examples, save_examples
from recray.features.queries import day_queries
from recray.features.ranking import chosen
from recray.folders import build_once, digest
from recray.recipes.two_stage import TwoStage
from recray.schema import FeatureSchema, SemanticSchema
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
    """Names of the ranking features that the ranker is to go by; none: all there are."""
    negatives: int = 50
    """Candidates that were not chosen kept per training query; 0 keeps all."""
    holdout: float = 0.0
    """Share of the users kept for early stopping; 0: trains on all."""
    seed: int = 0
    """Of the negatives, the users held out, and a network's weights and order of data."""

    def __post_init__(self) -> None:
        chosen(self.features)
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


class RankerData:
    """What a ranker learns from: examples in a folder, and the retriever whose candidates they are.

    A worker needs the examples alone, so the rest is opened when it is first asked for.
    """

    def __init__(self, run: RankerRun, *, quantize: bool) -> None:
        """
        Raises:
            ConfigError: the retriever is not in the store, is none, or was trained under another protocol.
        """
        self.run, self.bundle = run, _retriever_bundle(run)
        schema = self.bundle.manifest.schema
        assert isinstance(schema, FeatureSchema | SemanticSchema)
        self.num_items = schema.num_items
        said = {
            "code": __version__,
            "data": to_dict(run.data),
            "data_hash": prepared_manifest(run.data.dataset, k_core=run.data.k_core).hash,
            "retriever": self.bundle.reference.digest,
            "candidates": to_dict(run.candidates),
            "seed": run.seed,
            "negatives": run.negatives,
            "holdout": run.holdout,
            "features": chosen(run.features),
            "quantized": quantize,
        }
        self.folder = paths.runs_dir() / "examples" / f"{self.bundle.manifest.name}-{digest(said)}"
        build_once(self.folder, lambda _: True, lambda target, _: _write_examples(self, target, quantize))

    @cached_property
    def split(self) -> SplitData:
        return open_split(self.run.data)

    @cached_property
    def stages(self) -> TwoStage:
        self.bundle.verify()
        return TwoStage(self.bundle, self.split, self.run.candidates)

    @property
    def num_queries(self) -> int:
        count: int = json.loads((self.folder / QUERIES).read_text())["queries"]
        return count


def _retriever_bundle(run: RankerRun) -> Bundle:
    store = Store()
    name = run.retriever or bundle_name(data_name(run.data.dataset), "two_tower")
    if not run.retriever and name not in store.applications():
        raise ConfigError(
            f"no {name!r} in the store: train and publish it first with jobs/train_two_tower.py, or name "
            "another retriever with --retriever"
        )
    bundle = store.open(name, run.retriever_version)
    if not isinstance(bundle.manifest.schema, FeatureSchema | SemanticSchema):
        raise ConfigError(f"{bundle.reference} is a {bundle.manifest.model!r}, not a retriever")
    return bundle


def _write_examples(data: RankerData, folder: Path, quantize: bool) -> None:
    """Ranking examples of the validation part, as files that workers read their queries from."""
    run, stages = data.run, data.stages
    log.info("ranking examples from the candidates of %s", data.bundle.reference)
    examples = training_queries(run, stages)
    rows = ranking_examples(
        stages.log,
        examples.queries,
        stages.candidates(examples.queries),
        examples.targets,
        chosen(run.features),
        negatives=run.negatives or None,
        seed=run.seed,
    )
    held_out_N = _held_out(examples.queries.user_ids_B.numpy()[rows.query_ids_N], run)
    train = rows.select(~held_out_N)
    # Quantised before it is dealt out: the trees are then the same for any number of workers.
    save_examples(quantized(train) if quantize else train, folder / TRAIN)
    if run.holdout:
        save_examples(rows.select(held_out_N), folder / HOLDOUT)
    (folder / QUERIES).write_text(json.dumps({"queries": len(np.unique(rows.query_ids_N))}))


def training_queries(run: RankerRun, stages: TwoStage) -> EvalExamples:
    """What the ranker learns from: the validation part, as a live system would have been asked.

    Under a global-time split a query for each day on which a known user came back, if all that happened then
    is to be found and was not seen; else the one query per user of the validation part.
    """
    dataset, split = stages.data.dataset, stages.data.split
    chosen_few = split.relevant_N is not None or split.seen == "keep"
    if run.data.split != "global-time" or chosen_few:
        return eval_examples(dataset, split, "validation")[0]
    times_N = dataset.timestamps_N[split.validation_N]
    known_U = np.bincount(dataset.user_ids_N[split.train_N], minlength=dataset.num_users) > 0
    return day_queries(stages.log, int(times_N[0]), int(times_N[-1]) + 1, users_U=known_U)


def _held_out(user_ids_N: Int64s, run: RankerRun) -> Bools:
    """Rows of a seeded share of the users: whole users, because a user's days resemble each other."""
    users = np.unique(user_ids_N)
    count = round(run.holdout * len(users))
    return np.isin(user_ids_N, np.random.default_rng(run.seed).choice(users, count, replace=False))
