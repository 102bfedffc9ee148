"""Accuracy of a ranking, per query, over the full catalogue, with ties as expected credit.

The metrics are those of a ranking drawn at random from all orders that agree with the scores, in
expectation: McSherry & Najork, Computing Information Retrieval Performance Measures Efficiently in
the Presence of Tied Scores, ECIR 2008, https://doi.org/10.1007/978-3-540-78646-7_38. A model that
gives every item the same score gets what chance would give it, whatever the order of the item ids.

An item scored ``-inf`` is no candidate: it takes no position and no part in AUC. With R targets,
position p counted from 1 and ``rel_p`` 1 where position p holds a target:

* recall@k = Σ_{p<=k} rel_p / R; hit@k = 1 if any of them is 1
* ndcg@k = Σ_{p<=k} rel_p / log2(p + 1), over the same sum for an ideal ranking (Järvelin & Kekäläinen 2002)
* mrr@k = 1 / (position of the first target), 0 if that is beyond k
* map@k = Σ_{p<=k} rel_p · precision@p / R (trec_eval's map_cut: the divisor is R also where R > k)
* auc = share of (target, other candidate) pairs in the right order, a tie counting one half;
  0.5 where a query has no other candidate

A list longer than the catalogue is the whole catalogue.

Shapes: B queries, I catalogue, N targets of all queries, K positions looked at (the largest k).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recray.batch import Jagged
from recray.config import ConfigError, nearest
from recray.eval.ranking import TieGroups, best_scores, one_thread, sort_scores, tie_groups
from recray.schema import DataError

LISTED = ("recall", "hit", "ndcg", "mrr", "map", "novelty", "popularity_bias")  # measured at every k


def require_metric(name: str, further: Collection[str] = ("auc",)) -> int | None:
    """The list length that a metric of a full ranking is asked for at; None for one of ``further``.

    Raises:
        ConfigError: there is no such metric; the message names the nearest.
    """
    kind, _, k = name.partition("@")
    is_length = k.isdecimal() and int(k) >= 1
    if kind in LISTED and is_length:
        return int(k)
    if name not in further:
        valid = [*(f"{each}@{k if is_length else 10}" for each in LISTED), *further]
        raise ConfigError(f"metric {name!r} is not measured{nearest(name, valid)}")
    return None


def per_query_metrics(
    scores_BI: Tensor, targets: Jagged, ks: Sequence[int], *, first_query: int = 0
) -> dict[str, Tensor]:
    """Metrics of each query: ``recall@k hit@k ndcg@k mrr@k map@k`` for every k, and ``auc``.

    Args:
        scores_BI: float, higher is better; ``-inf`` marks what is no candidate (seen items).
        targets: item ids, at least one per query, no repeats within a query.
        ks: list lengths, each at least 1.
        first_query: number of the first row, for error messages of chunked callers.

    Returns:
        name -> float64 [B], on the CPU, each value in [0, 1].

    Raises:
        ConfigError: a k is below 1.
        DataError: NaN scores; a target that is masked, repeated, missing or not in the catalogue.
    """
    check_ks(ks)
    with one_thread():
        return _per_query_metrics(scores_BI, targets, ks, first_query)


def _per_query_metrics(
    scores_BI: Tensor, targets: Jagged, ks: Sequence[int], first_query: int
) -> dict[str, Tensor]:
    targets = Jagged(targets.values_N.cpu(), targets.offsets_B.cpu())
    check_targets(targets, tuple(scores_BI.shape), first_query=first_query)
    sorted_BI = sort_scores(scores_BI, first_query=first_query)
    target_scores_N = scores_BI.detach().cpu()[targets.rows_N(), targets.values_N].to(sorted_BI.dtype)
    return target_metrics(sorted_BI, target_scores_N, targets, ks, first_query=first_query)


def check_ks(ks: Sequence[int]) -> None:
    """Raises ConfigError unless there are ks, each at least 1."""
    if not ks:
        raise ConfigError("ks is empty: give at least one list length, e.g. (10,)")
    for k in ks:
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")


def check_targets(targets: Jagged, shape: tuple[int, ...], *, first_query: int = 0) -> None:
    """Raises DataError unless every query has targets, all in the catalogue, none of them twice."""
    num_queries, num_items = shape
    lengths_B = targets.lengths_B()
    if len(lengths_B) != num_queries:
        raise DataError(f"{num_queries} rows of scores but targets for {len(lengths_B)} queries")
    if (lengths_B == 0).any():
        row = int((lengths_B == 0).nonzero()[0])
        raise DataError(f"query {first_query + row} has no target: leave such queries out")
    outside_N = (targets.values_N < 0) | (targets.values_N >= num_items)
    if outside_N.any():
        n = int(outside_N.nonzero()[0])
        raise DataError(
            f"target item {int(targets.values_N[n])} of query {first_query + int(targets.rows_N()[n])}"
            f" is not in the catalogue of {num_items} items"
        )
    keys_N = (targets.rows_N() * num_items + targets.values_N).sort().values
    repeated_N = keys_N[1:] == keys_N[:-1]
    if repeated_N.any():
        key = int(keys_N[1:][repeated_N][0])
        raise DataError(
            f"query {first_query + key // num_items} has target item {key % num_items} twice:"
            " keep one of each within a query"
        )


def target_metrics(
    sorted_BI: Tensor, target_scores_N: Tensor, targets: Jagged, ks: Sequence[int], *, first_query: int = 0
) -> dict[str, Tensor]:
    """``per_query_metrics`` for callers that have the sorted scores already (``ranking.sort_scores``)."""
    masked_N = target_scores_N == float("-inf")
    if masked_N.any():
        n = int(masked_N.nonzero()[0])
        query = first_query + int(targets.rows_N()[n])
        raise DataError(
            f"target item {int(targets.values_N[n])} of query {query} is masked"
            " (score -inf): a seen item cannot be a target; drop it from the targets or keep seen items"
        )
    groups_N = _target_groups(sorted_BI, target_scores_N, targets)
    longest = min(max(ks), sorted_BI.shape[1])
    positions = _positions(sorted_BI, groups_N, targets, longest)
    num_relevant_B = targets.lengths_B().double()
    curves_BK = _curves(positions, num_relevant_B)
    metrics = {
        f"{name}@{k}": curve_BK[:, min(k, longest) - 1].clamp(0, 1)  # the sums may pass 1 by a rounding error
        for k in ks
        for name, curve_BK in curves_BK.items()
    }
    return metrics | {"auc": _auc(sorted_BI, groups_N, targets)}


def _target_groups(sorted_BI: Tensor, target_scores_N: Tensor, targets: Jagged) -> TieGroups:
    """The tie group of each target, flat: above_N and tied_N."""
    rows_N = targets.rows_N()
    columns_N = targets.places_N()
    width = int(targets.lengths_B().max()) if len(targets.offsets_B) > 1 else 0
    padded_BX = torch.full((len(sorted_BI), width), float("-inf"), dtype=sorted_BI.dtype)
    padded_BX[rows_N, columns_N] = target_scores_N
    groups = tie_groups(sorted_BI, padded_BX)
    return TieGroups(groups.above_BX[rows_N, columns_N], groups.tied_BX[rows_N, columns_N])


class _Positions(NamedTuple):
    """What is known about each of the first K positions of each query; float64 [B, K]."""

    chance_BK: Tensor  # probability that the position holds a target
    first_BK: Tensor  # probability that it holds the first one
    earlier_BK: Tensor  # expected number of targets before it, given that it holds one


def _positions(sorted_BI: Tensor, targets_N: TieGroups, targets: Jagged, k: int) -> _Positions:
    groups_BK = tie_groups(sorted_BI, best_scores(sorted_BI, k))
    above_BK = groups_BK.above_BX
    inside_N = targets_N.above_BX < k
    starting_BK = torch.zeros(above_BK.shape, dtype=torch.float64)  # targets by where their group starts
    index = (targets.rows_N()[inside_N], targets_N.above_BX[inside_N])
    starting_BK.index_put_(index, torch.ones(len(index[0]), dtype=torch.float64), accumulate=True)
    relevant_BK = starting_BK.gather(1, above_BK)  # targets in the group of position p
    before_BK = (starting_BK.cumsum(1) - starting_BK).gather(1, above_BK)
    size_BK = groups_BK.tied_BX.double()
    place_BK = torch.arange(1, k + 1) - above_BK  # from 1, within the group
    # None so far within the group leaves r targets on the group's remaining places (hypergeometric).
    hazard_BK = (relevant_BK / (size_BK - place_BK + 1)).clamp(max=1)
    none_BK = (1 - hazard_BK).cumprod(1)
    none_before_BK = torch.cat([torch.ones_like(none_BK[:, :1]), none_BK[:, :-1]], dim=1)
    earlier_BK = before_BK + (place_BK - 1) * (relevant_BK - 1) / (size_BK - 1).clamp(min=1)
    return _Positions(relevant_BK / size_BK, none_before_BK * hazard_BK, earlier_BK)


def _curves(positions: _Positions, num_relevant_B: Tensor) -> dict[str, Tensor]:
    """Metric name -> its value at every list length up to K: float64 [B, K]."""
    chance_BK, first_BK, earlier_BK = positions
    position_K = torch.arange(1, chance_BK.shape[1] + 1, dtype=torch.float64)
    discount_K = 1 / (position_K + 1).log2()
    lengths_BK = torch.minimum(num_relevant_B[:, None], position_K).long()
    ideal_BK = discount_K.cumsum(0)[lengths_BK - 1]
    return {
        "recall": chance_BK.cumsum(1) / num_relevant_B[:, None],
        "hit": first_BK.cumsum(1),
        "ndcg": (chance_BK * discount_K).cumsum(1) / ideal_BK,
        "mrr": (first_BK / position_K).cumsum(1),
        "map": (chance_BK * (1 + earlier_BK) / position_K).cumsum(1) / num_relevant_B[:, None],
    }


def _auc(sorted_BI: Tensor, groups_N: TieGroups, targets: Jagged) -> Tensor:
    """Mann & Whitney 1947: the rank sum of the targets, ties at their mean rank."""
    masked_B1 = torch.full((len(sorted_BI), 1), float("-inf"), dtype=sorted_BI.dtype)
    candidates_B = tie_groups(sorted_BI, masked_B1).above_BX[:, 0]
    rows_N = targets.rows_N()
    below_N = candidates_B[rows_N] - groups_N.above_BX - groups_N.tied_BX
    rank_N = below_N.double() + (groups_N.tied_BX.double() + 1) / 2  # 1 is the worst
    relevant_B = targets.lengths_B().double()
    rank_sum_B = torch.zeros_like(relevant_B).index_add_(0, rows_N, rank_N)
    others_B = candidates_B.double() - relevant_B
    auc_B = (rank_sum_B - relevant_B * (relevant_B + 1) / 2) / (relevant_B * others_B)
    return torch.where(others_B > 0, auc_B, 0.5)
