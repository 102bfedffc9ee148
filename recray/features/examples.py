"""Ranking examples: the feature vectors of many queries' candidates with what was found among them.

Offline and online vectors come from the same ``ranking.compute``, one query at a time. Examples are
kept as one Parquet file with a column per feature, from which each worker reads its own queries.

Shapes: B queries, K candidates of a query, N rows of all queries, F features.
"""

import heapq
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recray.arrays import Bools, Float32s, Int64s
from recray.batch import Jagged, QueryBatch
from recray.features.candidates import Candidates
from recray.features.log import EventLog
from recray.features.log_until import LogUntil
from recray.features.ranking import RankingQuery, compute
from recray.schema import DataError

PROGRESS_EVERY_S = 2.0
KEYS = ("query_id", "item_id", "label")  # a file's first columns; the others are features
_ROWS_PER_GROUP = 100_000  # a worker skips groups that hold none of its queries

logger = logging.getLogger(__name__)


class RankingExamples(NamedTuple):
    """Candidates of many queries, each query's rows side by side, queries in ascending order."""

    feature_names: tuple[str, ...]  # of the F columns
    features_NF: Float32s
    labels_N: Float32s  # relevance: 0 where not a target, else 1 or the grade
    query_ids_N: Int64s  # position of the query in its batch
    item_ids_N: Int64s

    def select(self, rows: Bools | Int64s) -> "RankingExamples":
        """Some of the rows."""
        return RankingExamples(
            self.feature_names,
            self.features_NF[rows],
            self.labels_N[rows],
            self.query_ids_N[rows],
            self.item_ids_N[rows],
        )


def ranking_query(queries: QueryBatch, b: int, candidates: Candidates, *, age_s: int = 0) -> RankingQuery:
    """Row b of a batch as ``ranking.compute`` takes it; an unknown user brings the history along.

    Args:
        age_s: seconds that the request comes after its time, with nothing heard of in between.
    """
    history_ids = history_times = None
    user_id = int(queries.user_ids_B[b])
    if user_id == -1:
        first, last = queries.history.offsets_B[b : b + 2].tolist()
        history_ids = queries.history.values_N[first:last].numpy()
        history_times = queries.history_times_N[first:last].numpy()
    time = int(queries.request_times_B[b])
    return RankingQuery(
        user_id,
        time + age_s,
        candidates.item_ids_K,
        candidates.scores_K,
        candidates.sources_K,
        history_ids,
        history_times,
        known_until=time,
    )


def ranking_examples(
    log: EventLog,
    queries: QueryBatch,
    candidates: Sequence[Candidates],
    targets: Jagged,
    feature_names: Sequence[str],
    *,
    grades_N: Float32s | None = None,
    negatives: int | None = None,
    keep_unanswered: bool = False,
    lag_s: int = 0,
    seed: int = 0,
) -> RankingExamples:
    """One row per candidate of each query, with features as of the query's request time.

    Args:
        log: all events; what happened at a query's request time or later is not looked at.
        candidates: of each query, in the order of the batch.
        targets: items that each query should find; those that are no candidates leave no row.
        feature_names: the columns to make.
        grades_N: positive relevance of each target, one per value of ``targets``; 1 without it.
        negatives: keep so many candidates of each query that are not targets, drawn without replacement
            (features are computed before, so ranks and gaps are those of the full list); None keeps all.
        keep_unanswered: keep queries with no target among their candidates; they teach nothing, but an
            evaluation needs them.
        lag_s: the log that a query is told of ends up to so many seconds before it, drawn evenly for each.
        seed: of the draws; a query's do not depend on the other queries.
    Raises:
        DataError: lengths differ, or no query is left.
    """
    _check_batch(queries, candidates, targets, grades_N)
    parts: dict[int, tuple[Float32s, Float32s, Int64s]] = {}
    told = LogUntil(log)
    started = shown = time.monotonic()
    # In order of time: the log keeps what it has looked up for the requests of a day.
    for done, b in enumerate(np.argsort(queries.request_times_B.numpy(), kind="stable").tolist()):
        labels_K = _labels(candidates[b].item_ids_K, targets, b, grades_N)
        if keep_unanswered or labels_K.any():
            rows = _kept_rows(labels_K, negatives, (seed, b))
            asked = ranking_query(queries, b, candidates[b])
            if lag_s:
                told.end = asked.time - int(np.random.default_rng((seed, b, lag_s)).integers(lag_s + 1))
                asked = replace(asked, known_until=told.end)
            features_KF = compute(told if lag_s else log, asked, feature_names)
            parts[b] = (features_KF[rows], labels_K[rows], candidates[b].item_ids_K[rows])
        if time.monotonic() - shown > PROGRESS_EVERY_S:
            shown = time.monotonic()
            rate = (done + 1) / (shown - started)
            logger.info("ranking features: %d of %d queries, %.0f/s", done + 1, len(candidates), rate)
    if not parts:
        raise DataError("no query has a target among its candidates: more candidates or a better retriever")
    return _joined(parts, tuple(feature_names))


def _joined(
    parts: dict[int, tuple[Float32s, Float32s, Int64s]], feature_names: tuple[str, ...]
) -> RankingExamples:
    ids = sorted(parts)
    features, labels, items = zip(*(parts[b] for b in ids), strict=True)
    query_ids_N = np.repeat(np.array(ids, np.int64), [len(part) for part in labels])
    return RankingExamples(
        feature_names, np.concatenate(features), np.concatenate(labels), query_ids_N, np.concatenate(items)
    )


def joined(parts: Sequence[RankingExamples], num_queries: Sequence[int]) -> RankingExamples:
    """Examples of several batches as those of one: ``num_queries`` says how long each batch was."""
    starts = np.cumsum([0, *num_queries[:-1]])
    return RankingExamples(
        parts[0].feature_names,
        np.concatenate([part.features_NF for part in parts]),
        np.concatenate([part.labels_N for part in parts]),
        np.concatenate([part.query_ids_N + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.item_ids_N for part in parts]),
    )


def _labels(item_ids_K: Int64s, targets: Jagged, b: int, grades_N: Float32s | None) -> Float32s:
    first, last = targets.offsets_B[b : b + 2].tolist()
    wanted = targets.values_N[first:last].numpy()
    grades = np.ones(len(wanted), np.float32) if grades_N is None else grades_N[first:last]
    hit_KT = item_ids_K[:, None] == wanted[None, :]
    labels_K: Float32s = np.where(hit_KT, grades[None, :], np.float32(0)).max(axis=1, initial=0)
    return labels_K


def _kept_rows(labels_K: Float32s, negatives: int | None, key: tuple[int, int]) -> Int64s:
    """Rows to keep: all positives and a draw of the others, in the order of the candidates."""
    others = np.flatnonzero(labels_K == 0)
    if negatives is None or len(others) <= negatives:
        return np.arange(len(labels_K))
    drawn = np.random.default_rng(key).choice(others, negatives, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(labels_K), drawn]))


def _check_batch(
    queries: QueryBatch, candidates: Sequence[Candidates], targets: Jagged, grades_N: Float32s | None
) -> None:
    lengths = (len(queries.user_ids_B), len(candidates), len(targets.offsets_B) - 1)
    if len(set(lengths)) > 1:
        raise DataError(f"{lengths} queries, candidate lists and target lists; give one each per query")
    if grades_N is not None and len(grades_N) != len(targets.values_N):
        raise DataError(f"{len(grades_N)} grades for {len(targets.values_N)} targets; give one each")


# ---------------------------------------------------------------------------- workers and files


def quantized(examples: RankingExamples, bins: int = 255) -> RankingExamples:
    """Examples whose features take at most ``bins`` values each, for training on any number of workers.

    Every value is lowered to the nearest of its feature's quantiles over all rows. Histogram trees bin
    features anyway, but on several workers from a merge of sketches that depends on who has which row;
    with so few distinct values every sketch is exact, and so are the trees. A split between two quantiles
    parts raw values as it parts the lowered ones, so the ranker scores features as ``compute`` gives them.
    """
    features_NF = np.empty_like(examples.features_NF)
    for f, values_N in enumerate(examples.features_NF.T):
        known_N = np.sort(values_N[~np.isnan(values_N)])
        edges = np.unique(known_N)
        if len(edges) > bins:
            edges = np.unique(known_N[np.linspace(0, len(known_N) - 1, bins).astype(np.int64)])
        places_N = np.searchsorted(edges, values_N, side="right") - 1  # NaN: the last one
        features_NF[:, f] = np.where(np.isnan(values_N), np.nan, edges[places_N] if len(edges) else np.nan)
    return examples._replace(features_NF=features_NF)


def deal(query_ids_N: Int64s, world_size: int) -> Int64s:
    """worker_N, int64: which worker each row goes to. Queries stay whole, workers get about equal rows.

    Largest query first to the worker with the fewest rows (ties: lower query id, lower rank), so it is a
    pure function of the ids.

    Raises:
        DataError: fewer queries than workers.
    """
    unique_Q, query_N, rows_Q = np.unique(query_ids_N, return_inverse=True, return_counts=True)
    if len(unique_Q) < world_size:
        raise DataError(f"{len(unique_Q)} queries cannot be dealt to {world_size} workers: use fewer workers")
    worker_Q = np.empty(len(unique_Q), np.int64)
    loads = [(0, rank) for rank in range(world_size)]
    for query in np.argsort(-rows_Q, kind="stable").tolist():
        load, rank = loads[0]
        worker_Q[query] = rank
        heapq.heapreplace(loads, (load + int(rows_Q[query]), rank))
    worker_N: Int64s = worker_Q[query_N]
    return worker_N


def share(examples: RankingExamples, rank: int, world_size: int) -> RankingExamples:
    """The whole queries that ``deal`` gives to this rank."""
    if world_size == 1:
        return examples
    return examples.select(deal(examples.query_ids_N, world_size) == rank)


def save_examples(examples: RankingExamples, path: Path) -> None:
    """One Parquet file: query_id, item_id, label, and a column per feature."""
    columns = dict(zip(KEYS, (examples.query_ids_N, examples.item_ids_N, examples.labels_N), strict=True))
    columns |= dict(zip(examples.feature_names, examples.features_NF.T, strict=True))
    pq.write_table(pa.table(columns), path, row_group_size=_ROWS_PER_GROUP)


def feature_names_of(path: Path) -> tuple[str, ...]:
    """Of the examples that ``save_examples`` wrote, without reading them."""
    return tuple(pq.read_schema(path).names[len(KEYS) :])


def load_examples(path: Path, rank: int = 0, world_size: int = 1) -> RankingExamples:
    """What ``save_examples`` wrote, or this rank's whole queries of it (see ``deal``).

    Raises:
        DataError: the file is missing, or is no file of ranking examples.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; write it with save_examples")
    file = pq.ParquetFile(path)
    keys, feature_names = file.schema_arrow.names[: len(KEYS)], file.schema_arrow.names[len(KEYS) :]
    if tuple(keys) != KEYS:
        raise DataError(f"{path}: begins with {keys} instead of {KEYS}: no ranking examples, make it again")
    query_ids_N = file.read(["query_id"])["query_id"].to_numpy()
    worker_N = deal(query_ids_N, world_size)
    parts, start = [], 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        mine = worker_N[start:stop] == rank
        if mine.any():
            parts.append([column.to_numpy()[mine] for column in file.read_row_group(group).columns])
        start = stop
    query_ids_N, item_ids_N, labels_N, *columns = map(np.concatenate, zip(*parts, strict=True))
    features_NF = np.stack(columns, axis=1)
    return RankingExamples(tuple(feature_names), features_NF, labels_N, query_ids_N, item_ids_N)
