"""The two training stages, each as one call: launch it, measure it on the test part, publish it."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from recray import paths
from recray.bundles.ranker import RANKERS, load_ranker
from recray.contract import Scorer
from recray.eval.evaluate import Evaluation
from recray.launch import launch, run_name
from recray.ops.ann import IndexConfig
from recray.recipes import dlrm_ranking, ranking, recipe
from recray.recipes.publishing import publish_retriever
from recray.recipes.retrieval import (
    CountRun,
    Prepared,
    evaluate_retriever,
    model_name,
    prepared,
    restore,
)
from recray.store import Bundle, Store
from recray.train.context import Context, LaunchConfig

log = logging.getLogger(__name__)


class TrainedRetriever(NamedTuple):
    bundle: Bundle
    evaluation: Evaluation


class TrainedRanker(NamedTuple):
    bundle: Bundle
    result: ranking.TwoStageResult


def train_retriever(run: Any, config: LaunchConfig, index: IndexConfig, store: Store) -> TrainedRetriever:
    """Trains a retriever by its recipe and publishes it with all that answers; see ``publish_retriever``.

    Counting is done in this process, everything else where ``config`` says.

    Raises:
        DataError: the data set is not prepared and its raw files are not at hand; before any worker starts.
    """
    data = prepared(run.data)
    log.info("%s: %s", data.dataset.name, _size(data))
    name = model_name(run)
    if isinstance(run, CountRun):
        model: Any = recipe(name).train(run, Context())
    else:
        done = launch(recipe(name).train, run, config, f"{name}-{data.dataset.name}")
        model = restore(run, done.checkpoint)
    evaluation = evaluate_retriever(model, data)
    return TrainedRetriever(publish_retriever(run, model, evaluation, index, store), evaluation)


def train_ranker(run: ranking.RankerRun, config: LaunchConfig, store: Store) -> TrainedRanker:
    """Makes ranking examples from a published retriever, trains on them, and publishes the ranker.

    Raises:
        ConfigError: the retriever is not in the store, or was trained under another protocol.
    """
    stages = ranking.open_two_stage(run, store)
    name = run_name(config, f"ranker-{stages.data.dataset.name}")
    log.info("ranking examples from the candidates of %s", stages.bundle.reference)
    folder: Path = paths.runs_dir() / "examples" / name
    ranking.write_examples(run, stages, folder)
    task = ranking.RankerTask(run, folder, stages.data.dataset.num_items)
    named = replace(config, run=name)
    if run.ranker == "dlrm":
        done = launch(dlrm_ranking.train_network, task, named, name)
        ranker: Scorer = dlrm_ranking.restore(task, done.checkpoint)
    else:
        done = launch(ranking.train_trees, task, named, name, communicator="xgboost")
        ranker = load_ranker("gbdt", done.checkpoint / RANKERS["gbdt"])
    log.info("measuring both stages on the test part")
    result = ranking.evaluate_two_stage(stages, ranker)
    return TrainedRanker(ranking.publish_ranker(run, stages, ranker, result, store), result)


def _size(data: Prepared) -> str:
    d, split = data.dataset, data.split
    parts = "/".join(f"{int(m.sum()):,}" for m in (split.train_N, split.validation_N, split.test_N))
    return f"{d.num_users:,} users, {d.num_items:,} items, {len(d):,} interactions; {split.name}: {parts}"
