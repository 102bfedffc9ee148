"""Lists that are shown as they are, measured like any ranking: what a whole application recommends.

A list is in a definite order, so nothing ties; what it does not hold is behind it in no known order, so
there is no area under the ranking (AUC). Places that a short list leaves empty earn nothing.

Shapes: B queries, S items of one list, I catalogue.
"""

from collections.abc import Sequence

import numpy as np
import torch

from recray.arrays import Int64s
from recray.batch import EvalExamples
from recray.eval.evaluate import Evaluation
from recray.eval.exposure import Exposure
from recray.eval.metrics import per_query_metrics
from recray.eval.ranking import sort_scores
from recray.schema import DataError, ProtocolCard

CHUNK = 512  # lists whose scores of the whole catalogue exist at a time


def evaluate_lists(
    lists: Sequence[Int64s],
    examples: EvalExamples,
    card: ProtocolCard,
    item_counts_I: Int64s,
    *,
    ks: Sequence[int] = (10,),
) -> Evaluation:
    """The metrics of ``evaluate`` but ``auc``, and ``filled@k``: the share of k places that hold an item.

    Novelty and popularity bias are means over the items of a list, 0 for an empty one.

    Args:
        lists: item_ids_S of each query, best first, without repeats.
        item_counts_I: training interactions of each item, for novelty and popularity bias.
        ks: list lengths.
    Raises:
        DataError: not one list per query, or as ``per_query_metrics``.
    """
    num_queries = len(examples.queries.user_ids_B)
    if len(lists) != num_queries:
        raise DataError(f"{len(lists)} lists for {num_queries} queries; give one each")
    exposure = Exposure(item_counts_I, ks)
    parts = []
    for start in range(0, num_queries, CHUNK):
        stop = min(start + CHUNK, num_queries)
        part = _scores(lists[start:stop], len(item_counts_I))
        shown = exposure.add(part, sort_scores(part))
        targets = examples.targets.slice(start, stop)
        # The filling of empty places: any item but a target, before the targets that were not shown.
        ranked_BI = part.clamp(min=-1.0)
        rows_N, items_N = targets.rows_N(), targets.values_N
        ranked_BI[rows_N, items_N] = part[rows_N, items_N].clamp(min=-2.0)
        accuracy = per_query_metrics(ranked_BI, targets, ks, first_query=start)
        accuracy.pop("auc")
        parts.append(accuracy | {name: values_B.nan_to_num(0.0) for name, values_B in shown.items()})
    per_query = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    lengths_B = np.array([len(item_ids_S) for item_ids_S in lists])
    longest = [min(k, len(item_counts_I)) for k in ks]
    per_query |= {f"filled@{k}": np.minimum(lengths_B, n) / n for k, n in zip(ks, longest, strict=True)}
    return Evaluation(
        card=card,
        per_query=per_query,
        scalars=exposure.coverage(),
        user_ids_U=examples.queries.user_ids_B.numpy().copy(),
    )


def _scores(lists: Sequence[Int64s], num_items: int) -> torch.Tensor:
    """scores_BI: S for the first item of a list, 1 for its last, -inf for all that it does not hold."""
    scores_BI = torch.full((len(lists), num_items), float("-inf"))
    for b, item_ids_S in enumerate(lists):
        places_S = np.arange(len(item_ids_S), 0, -1, dtype=np.float32)
        scores_BI[b, torch.from_numpy(item_ids_S)] = torch.from_numpy(places_S)
    return scores_BI
