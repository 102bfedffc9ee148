"""What the lists show, whatever the targets: coverage, novelty, popularity bias.

Ties at the end of a list count as in ``recray.eval.metrics``: an item of a tie group that has only
some places in the list is in it with the probability that a random order gives.

* novelty@k: mean self-information of the listed items, -log2 p(item), p the item's share of the
  training interactions (Zhou et al., PNAS 2010; Castells, Vargas & Wang 2011). An item without
  interactions counts as if it had one.
* popularity_bias@k: the popularity lift of Abdollahpouri et al. (The Connection Between Popularity
  Bias, Calibration, and Fairness in Recommendation, RecSys 2020): mean popularity of what is
  recommended over mean popularity of what is consumed, minus 1. Popularity is the number of training
  interactions; the consumed side is the mean over training interactions, Σ count² / Σ count, so that
  it does not depend on who is evaluated. 0: as popular as what people take; 1: twice that.
* coverage@k: expected share of the catalogue that stands in at least one list (Ge et al., RecSys 2010).

Shapes: B queries, I catalogue.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recray.arrays import Int64s
from recray.eval.ranking import best_scores, tie_groups
from recray.schema import DataError

_MAX_CELLS = 2**22  # scores looked at together: bounds memory where whole rows tie


class Exposure:
    """Per-query novelty and popularity bias, and the items shown so far.

    Args:
        item_counts_I: training interactions of each item, int.
        ks: list lengths.

    Raises:
        DataError: a negative count, or no interactions at all.
    """

    def __init__(self, item_counts_I: Int64s, ks: Sequence[int]) -> None:
        counts_I = torch.as_tensor(np.asarray(item_counts_I), dtype=torch.float64)
        if (counts_I < 0).any() or counts_I.sum() == 0:
            raise DataError(
                "item_counts_I must be the training interactions of each item, some of them above 0:"
                f" got {int(counts_I.sum())} in all, smallest {int(counts_I.min())}"
            )
        self._ks = tuple(ks)
        self._information_I = -(counts_I.clamp(min=1) / counts_I.sum()).log2()
        self._lift_I = counts_I / (counts_I.square().sum() / counts_I.sum())
        self._log_unseen = {k: torch.zeros_like(counts_I) for k in self._ks}

    def add(self, scores_BI: Tensor, sorted_BI: Tensor) -> dict[str, Tensor]:
        """Takes note of the lists of more queries; ``novelty@k`` and ``popularity_bias@k``, float64 [B].

        Args:
            scores_BI: on the CPU, ``-inf`` where masked.
            sorted_BI: the same from ``ranking.sort_scores``.
        """
        rows = max(1, _MAX_CELLS // scores_BI.shape[1])
        starts = range(0, len(scores_BI), rows)
        parts = [self._add(scores_BI[s : s + rows], sorted_BI[s : s + rows]) for s in starts]
        return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}

    def _add(self, scores_BI: Tensor, sorted_BI: Tensor) -> dict[str, Tensor]:
        num_items = scores_BI.shape[1]
        best_BK = best_scores(sorted_BI, min(max(self._ks), num_items))
        groups_BK = tie_groups(sorted_BI, best_BK)
        # A query with fewer candidates than the list is long lists what it has.
        listed_BI = (scores_BI >= best_BK[:, -1:]) & (scores_BI > float("-inf"))
        rows_N, items_N = (torch.from_numpy(index) for index in np.nonzero(listed_BI.numpy()))
        scores_N = scores_BI[rows_N, items_N]
        found: dict[str, Tensor] = {}
        for k in self._ks:
            length = min(k, num_items)
            places_B = length - groups_BK.above_BX[:, length - 1]  # of the list, for the group at its end
            share_B = places_B.double() / groups_BK.tied_BX[:, length - 1]
            last_N = best_BK[rows_N, length - 1]
            listed_N = torch.where(scores_N == last_N, share_B[rows_N], (scores_N > last_N).double())
            self._log_unseen[k].index_add_(0, items_N, torch.log1p(-listed_N))
            length_B = _sum_by_row(listed_N, rows_N, len(scores_BI))
            novelty_B = _sum_by_row(listed_N * self._information_I[items_N], rows_N, len(scores_BI))
            lift_B = _sum_by_row(listed_N * self._lift_I[items_N], rows_N, len(scores_BI))
            found[f"novelty@{k}"] = novelty_B / length_B
            found[f"popularity_bias@{k}"] = lift_B / length_B - 1
        return found

    def coverage(self) -> dict[str, float]:
        """``coverage@k`` over all queries added so far."""
        return {f"coverage@{k}": float((-log_I.expm1()).mean()) for k, log_I in self._log_unseen.items()}


def _sum_by_row(values_N: Tensor, rows_N: Tensor, num_rows: int) -> Tensor:
    return torch.zeros(num_rows, dtype=torch.float64).index_add_(0, rows_N, values_N)
