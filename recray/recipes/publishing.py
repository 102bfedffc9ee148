"""From a trained retriever to a published version: vectors, an index whose recall was measured, metrics."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recray.arrays import Float32s, Int64s
from recray.batch import Jagged, QueryBatch
from recray.bundles.retriever import RetrieverFiles, read_retriever, write_retriever
from recray.bundles.weights import load_model
from recray.config import ConfigError, to_dict
from recray.contract import VectorRetriever, reads_history
from recray.data.events.examples import item_counts
from recray.data.events.side_features import encode_side_features
from recray.eval.evaluate import Evaluation
from recray.features.log import EventLog
from recray.ops.ann import Index, IndexConfig, build_index, recall_against_exact
from recray.recipes.ranking import event_log
from recray.recipes.retrieval import bundle_name, model_name, prepared
from recray.store.bundle import Bundle
from recray.store.store import Store

log = logging.getLogger(__name__)
RECALL_QUERIES, RECALL_AT = 1000, 100


def publish_retriever(
    run: Any, model: Any, evaluation: Evaluation, index_config: IndexConfig, store: Store
) -> Bundle:
    """Publishes a trained retriever as ``<dataset>-<model>``.

    With it: what users did, for what they have seen and for models that read it; item vectors and an index,
    if it has vectors; all users' query vectors, if they depend on the user id alone.
    """
    data = prepared(run.data)
    trained_users_N = data.dataset.user_ids_N[data.split.train_N]
    files = RetrieverFiles(
        users=data.dataset.users,
        items=data.dataset.items,
        item_counts_I=item_counts(data.dataset, data.split.train_N),
        item_ID=None,
        user_UD=None,
        index=None,
        log=event_log(data.dataset),
        user_counts_U=np.bincount(trained_users_N, minlength=data.dataset.num_users),
    )
    recall: dict[str, float] = {}
    if isinstance(model, VectorRetriever):
        files = replace(files, item_ID=model.item_vectors().numpy())
        if not reads_history(model):
            files = replace(files, user_UD=user_vectors(model, data.dataset.num_users))
    if files.item_ID is not None:
        index, recall = measured_index(files.item_ID, query_sample(model, files), index_config)
        files = replace(files, index=index)
    return store.publish(
        bundle_name(data.dataset, model_name(run)),
        lambda folder: write_retriever(folder, model, files),
        model=model_name(run),
        config=to_dict(run.model),
        schema=encode_side_features(data.dataset)[0],
        card=evaluation.card,
        metrics={**evaluation.means(), **recall},
    )


def user_vectors(model: VectorRetriever, num_users: int, chunk: int = 8192) -> Float32s:
    """user_UD: the query vector of every user id, without a history."""
    parts = []
    for start in range(0, num_users, chunk):
        ids_B = torch.arange(start, min(start + chunk, num_users))
        parts.append(model.query_vectors(QueryBatch.without_history(ids_B)))
    return torch.cat(parts).numpy()


def query_sample(model: VectorRetriever, files: RetrieverFiles) -> Float32s:
    """Query vectors of a seeded sample of known users: their own, or what the model makes of the log."""
    count = len(files.users)
    users_B = np.random.default_rng(0).choice(count, min(RECALL_QUERIES, count), replace=False)
    if files.user_UD is not None:
        return files.user_UD[users_B]
    assert files.log is not None
    return model.query_vectors(_latest(files.log, users_B)).numpy()


def _latest(log: EventLog, users_B: Int64s) -> QueryBatch:
    """These users, asking right after the last event of the log."""
    time = int(log.timestamps_N.max()) + 1
    events = [log.events_before(int(user), time) for user in users_B]
    history = Jagged.from_rows([one.item_ids_H.tolist() for one in events])
    times_N = torch.from_numpy(np.concatenate([one.times_H for one in events]))
    return QueryBatch(torch.from_numpy(users_B), history, times_N, torch.full((len(users_B),), time))


def measured_index(
    item_ID: Float32s, query_BD: Float32s, config: IndexConfig
) -> tuple[Index, dict[str, float]]:
    """An index, and its recall against exact search for these queries."""
    began = time.perf_counter()
    index = build_index(item_ID, config)
    k = min(RECALL_AT, len(item_ID))
    recall = recall_against_exact(index, query_BD, item_ID, k)
    log.info(
        "index %s over %d items in %.1f s: recall@%d %.4f against exact search",
        config.kind,
        len(item_ID),
        time.perf_counter() - began,
        k,
        recall,
    )
    return index, {f"index_recall@{k}": recall}


def reindex(name: str, version: str, config: IndexConfig, store: Store) -> Bundle:
    """A new version of a published retriever that differs in its index only.

    Raises:
        ConfigError: its model scores the catalogue without vectors.
    """
    bundle = store.open(name, version)
    bundle.verify()
    manifest, files, model = bundle.manifest, read_retriever(bundle), load_model(bundle)
    if files.item_ID is None or not isinstance(model, VectorRetriever):
        raise ConfigError(f"{bundle.reference}: {manifest.model!r} has no item vectors, so nothing to index")
    index, recall = measured_index(files.item_ID, query_sample(model, files), config)
    changed = replace(files, index=index)
    kept = {k: v for k, v in manifest.metrics.items() if not k.startswith("index_recall")}

    def write(folder: Path) -> None:
        write_retriever(folder, model, changed)

    return store.publish(
        name,
        write,
        model=manifest.model,
        config=manifest.config,
        schema=manifest.schema,
        card=manifest.card,
        metrics={**kept, **recall},
        parent=manifest.version,
    )
