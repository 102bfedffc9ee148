"""From a trained retriever to a published version: vectors, an index whose recall was measured, metrics."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recray.batch import QueryBatch
from recray.config import to_dict
from recray.data.examples import eval_examples, item_counts
from recray.data.side_features import encode_side_features
from recray.eval.evaluate import Evaluation
from recray.ops.ann import Index, IndexConfig, build_index, recall_against_exact
from recray.recipes.retrieval import Prepared, bundle_name, model_name, prepared
from recray.store.bundle import Bundle
from recray.store.contents import RetrieverFiles, read_retriever, write_retriever
from recray.store.store import Store
from recray.store.weights import load_model

log = logging.getLogger(__name__)
RECALL_QUERIES, RECALL_AT = 1000, 100
Vectors = npt.NDArray[np.float32]


def publish_retriever(
    run: Any, model: Any, evaluation: Evaluation, index_config: IndexConfig, store: Store
) -> Bundle:
    """Publishes a trained vector retriever as ``<dataset>-<model>``, with its vectors and an index."""
    data = prepared(run.data)
    item_ID, user_UD = materialise(model, data)
    index, recall = measured_index(item_ID, user_UD, index_config)
    files = RetrieverFiles(
        users=data.dataset.users,
        items=data.dataset.items,
        item_counts_I=item_counts(data.dataset, data.split.train_N),
        item_ID=item_ID,
        user_UD=user_UD,
        index=index,
    )
    return store.publish(
        bundle_name(data.dataset, model_name(run)),
        lambda folder: write_retriever(folder, model, files),
        model=model_name(run),
        config=to_dict(run.model),
        schema=encode_side_features(data.dataset)[0],
        card=evaluation.card,
        metrics={**evaluation.means(), **recall},
    )


def materialise(model: Any, data: Prepared, chunk: int = 8192) -> tuple[Vectors, Vectors]:
    """(item_ID, user_UD): every item's vector, and every user's own."""
    user_ids_U = torch.arange(data.dataset.num_users)
    examples, _ = eval_examples(data.dataset, data.split, "validation")
    empty = examples.queries.slice(0, 0)
    parts = []
    for start in range(0, len(user_ids_U), chunk):
        ids_B = user_ids_U[start : start + chunk]
        queries = QueryBatch(
            ids_B,
            empty.history._replace(offsets_B=torch.zeros(len(ids_B) + 1, dtype=torch.int64)),
            empty.history_times_N,
            torch.zeros_like(ids_B),
        )
        parts.append(model.query_vectors(queries))
    return model.item_vectors().numpy(), torch.cat(parts).numpy()


def measured_index(
    item_ID: Vectors, query_UD: Vectors, config: IndexConfig
) -> tuple[Index, dict[str, float]]:
    """An index, and its recall against exact search on a seeded sample of real queries."""
    began = time.perf_counter()
    index = build_index(item_ID, config)
    k = min(RECALL_AT, len(item_ID))
    rows = np.random.default_rng(0).choice(len(query_UD), min(RECALL_QUERIES, len(query_UD)), replace=False)
    recall = recall_against_exact(index, query_UD[rows], item_ID, k)
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
    """A new version of a published retriever that differs in its index only."""
    bundle = store.open(name, version)
    bundle.verify()
    manifest, files, model = bundle.manifest, read_retriever(bundle), load_model(bundle)
    queries_UD = files.item_ID if files.user_UD is None else files.user_UD
    index, recall = measured_index(files.item_ID, queries_UD, config)
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
