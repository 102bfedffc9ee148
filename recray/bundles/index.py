"""The vectors that a retriever is searched by, and an index over them whose recall was measured."""

import logging
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from recray.arrays import Float32s, Int64s
from recray.batch import Jagged, QueryBatch
from recray.bundles.retriever import RetrieverFiles
from recray.contract import VectorRetriever, reads_history
from recray.features.log import EventLog
from recray.ops.ann import Index, IndexConfig, build_index, recall_against_exact

log = logging.getLogger(__name__)
RECALL_QUERIES, RECALL_AT = 1000, 100


class MeasuredIndex(NamedTuple):
    content: Index
    recall: dict[str, float]  # one metric: against exact search, for a sample of users


def with_vectors(
    model: nn.Module, files: RetrieverFiles, config: IndexConfig
) -> tuple[RetrieverFiles, dict[str, float]]:
    """The same files with item vectors and an index, if the model has vectors, and its recall.

    All users' query vectors too, if they depend on the user id alone.
    """
    if not isinstance(model, VectorRetriever):
        return files, {}
    files = replace(files, item_ID=model.item_vectors().numpy())
    if not reads_history(model):
        files = replace(files, user_UD=user_vectors(model, len(files.users)))
    found = measured_index(model, files, config)
    return replace(files, index=found.content), found.recall


def user_vectors(model: VectorRetriever, num_users: int, chunk: int = 8192) -> Float32s:
    """user_UD: the query vector of every user id, without a history."""
    parts = []
    for start in range(0, num_users, chunk):
        ids_B = torch.arange(start, min(start + chunk, num_users))
        parts.append(model.query_vectors(QueryBatch.without_history(ids_B)))
    return torch.cat(parts).numpy()


def measured_index(model: VectorRetriever, files: RetrieverFiles, config: IndexConfig) -> MeasuredIndex:
    """An index over the item vectors, and its recall against exact search for a seeded sample of users."""
    assert files.item_ID is not None
    began = time.perf_counter()
    index = build_index(files.item_ID, config)
    k = min(RECALL_AT, len(files.item_ID))
    recall = recall_against_exact(index, _query_sample(model, files), files.item_ID, k)
    log.info(
        "index %s over %d items in %.1f s: recall@%d %.4f against exact search",
        config.kind,
        len(files.item_ID),
        time.perf_counter() - began,
        k,
        recall,
    )
    return MeasuredIndex(index, {f"index_recall@{k}": recall})


def _query_sample(model: VectorRetriever, files: RetrieverFiles) -> Float32s:
    """Query vectors of some known users: their own, or what the model makes of the log."""
    count = len(files.users)
    users_B = np.random.default_rng(0).choice(count, min(RECALL_QUERIES, count), replace=False)
    if files.user_UD is not None:
        return files.user_UD[users_B]
    assert files.log is not None
    return model.query_vectors(_latest(files.log, users_B)).numpy()


def _latest(events: EventLog, users_B: Int64s) -> QueryBatch:
    """These users, asking right after the last event of the log."""
    time = int(events.timestamps_N.max()) + 1
    found = [events.events_before(int(user), time) for user in users_B]
    history = Jagged.from_rows([one.item_ids_H.tolist() for one in found])
    times_N = torch.from_numpy(np.concatenate([one.times_H for one in found]))
    return QueryBatch(torch.from_numpy(users_B), history, times_N, torch.full((len(users_B),), time))
