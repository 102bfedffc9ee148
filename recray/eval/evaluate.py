"""One evaluation for every model: scores in, metrics per user with their protocol out.

Owns masking, chunking and the result. What a metric is stands in ``metrics`` and ``exposure``;
how sure it is in ``bootstrap``; which results may be compared in ``compare``.

Shapes: B queries of a chunk, I catalogue, U queries in all, N values of a jagged tensor.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recray.arrays import Float64s, Int64s
from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.config import ConfigError
from recray.eval.bootstrap import NUM_RESAMPLES, Interval, intervals
from recray.eval.exposure import Exposure
from recray.eval.metrics import check_ks, check_targets, target_metrics
from recray.eval.ranking import one_thread, sort_scores
from recray.schema import DataError, ProtocolCard

logger = logging.getLogger(__name__)
REPORT_AFTER_S = 2.0
MOST_SCORES = 2**24  # at a time: 64 MiB of float32, and a few times that while they are ranked


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured, per user, and how.

    ``per_query``: float64 [U] by name: the metrics of ``metrics.per_query_metrics``, ``novelty@k`` and
    ``popularity_bias@k``. ``scalars``: what only all lists together have, ``coverage@k``.
    """

    card: ProtocolCard
    per_query: dict[str, Float64s]
    scalars: dict[str, float]
    user_ids_U: Int64s

    def summary(self, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> dict[str, Interval]:
        """Every metric with its 95 % bootstrap interval over users; scalars have NaN for bounds."""
        values_UM = np.stack(list(self.per_query.values()), axis=1)
        found = intervals(values_UM, num_resamples=num_resamples, seed=seed)
        scalars = {name: Interval(value, float("nan"), float("nan")) for name, value in self.scalars.items()}
        return dict(zip(self.per_query, found, strict=True)) | scalars

    def means(self) -> dict[str, float]:
        """Every metric without its interval."""
        return {name: float(values_U.mean()) for name, values_U in self.per_query.items()} | self.scalars


class Sum(NamedTuple):
    """A part of a mean: add the parts of all ranks, then divide once."""

    total: float
    num_queries: int


def sums(evaluation: Evaluation) -> dict[str, Sum]:
    """The per-query metrics of one rank's users, ready to be reduced over ranks.

    Coverage is left out: it is a union of lists, which sums cannot give.
    """
    return {name: Sum(float(v_U.sum()), len(v_U)) for name, v_U in evaluation.per_query.items()}


def evaluate(
    score_items: Callable[[QueryBatch], Tensor],
    examples: EvalExamples,
    card: ProtocolCard,
    item_counts_I: Int64s,
    *,
    ks: Sequence[int] = (10,),
    chunk: int = 512,
) -> Evaluation:
    """Ranks the whole catalogue for every query and measures where the targets stand.

    The history of a query is removed from its ranking where ``card.seen`` is "filtered". Scores of
    one chunk of queries exist at a time; what ``score_items`` returns is not written to. The result
    does not depend on ``chunk``.

    Args:
        score_items: queries -> scores_BI, as ``contract.Retriever.score_items``; called without gradients.
        item_counts_I: training interactions of each item, for novelty and popularity bias.
        ks: list lengths.
        chunk: queries scored together, at most: over many items fewer, so that memory does not grow.

    Raises:
        ConfigError: a k below 1, a chunk below 1, scores of the wrong shape.
        DataError: no queries, NaN scores, or bad targets (also one that is in the filtered history).
    """
    num_queries, num_items = len(examples.queries.user_ids_B), len(item_counts_I)
    check_ks(ks)
    if chunk < 1:
        raise ConfigError(f"chunk must be at least 1, got {chunk}")
    if num_queries == 0:
        raise DataError("no queries to evaluate: no user has a target under this split")
    if card.seen not in ("filtered", "kept"):
        raise ConfigError(f'card.seen must be "filtered" or "kept", got {card.seen!r}')
    check_targets(examples.targets, (num_queries, num_items))
    exposure = Exposure(item_counts_I, ks)
    chunk = min(chunk, max(1, MOST_SCORES // num_items))
    began = time.perf_counter()
    parts: list[dict[str, Tensor]] = []
    for start in range(0, num_queries, chunk):
        stop = min(start + chunk, num_queries)
        queries = examples.queries.slice(start, stop)
        with torch.inference_mode():
            scores_BI = score_items(queries)
        targets = examples.targets.slice(start, stop)
        with one_thread():
            scores_BI = _candidates(scores_BI, queries, num_items, filtered=card.seen == "filtered")
            parts.append(_measure(scores_BI, targets, exposure, ks, first_query=start))
    if (elapsed_s := time.perf_counter() - began) > REPORT_AFTER_S:
        logger.info("evaluated %d queries over %d items in %.1f s", num_queries, num_items, elapsed_s)
    return Evaluation(
        card=card,
        per_query={name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]},
        scalars=exposure.coverage(),
        user_ids_U=examples.queries.user_ids_B.numpy().copy(),
    )


@torch.inference_mode()
def _candidates(scores_BI: Tensor, queries: QueryBatch, num_items: int, *, filtered: bool) -> Tensor:
    """Scores on the CPU, a copy, with the seen items at -inf."""
    expected = (len(queries.user_ids_B), num_items)
    if tuple(scores_BI.shape) != expected:
        raise ConfigError(f"score_items returned shape {tuple(scores_BI.shape)}, expected {expected}")
    dtype = torch.float64 if scores_BI.dtype == torch.float64 else torch.float32
    scores_BI = scores_BI.detach().to("cpu", dtype, copy=True).contiguous()
    if filtered:
        scores_BI[queries.history.rows_N(), queries.history.values_N] = float("-inf")
    return scores_BI


def _measure(
    scores_BI: Tensor, targets: Jagged, exposure: Exposure, ks: Sequence[int], *, first_query: int
) -> dict[str, Tensor]:
    sorted_BI = sort_scores(scores_BI, first_query=first_query)
    target_scores_N = scores_BI[targets.rows_N(), targets.values_N].to(sorted_BI.dtype)
    accuracy = target_metrics(sorted_BI, target_scores_N, targets, ks, first_query=first_query)
    return accuracy | exposure.add(scores_BI, sorted_BI)
