"""Row-wise Adagrad on the rows that bags looked up: fbgemm's EXACT_ROWWISE_ADAGRAD in plain PyTorch.

Gradients of a repeated row are summed first; then, for each row and each block of its columns,
``sum += mean(g^2)`` and ``w -= lr * g / (sqrt(sum) + eps)``.

Shapes: N ids, G bags, J distinct rows, D width, C column blocks of d columns, P rows of the table.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CACHED_ROWS = 8192  # updated at a time on a CPU, so that they stay in its cache meanwhile


class Bags(NamedTuple):
    """Rows of a table, bag by bag."""

    lengths_G: Tensor  # int32, the sum is N
    rows_N: Tensor  # int32
    weights_N: Tensor | None = None  # float32


def sum_bags(weight_PD: Tensor, bags: Bags) -> Tensor:
    """pooled_GD: the (weighted) sum of each bag's rows; zeros for an empty bag."""
    offsets_G = F.pad(bags.lengths_G.cumsum(0, dtype=torch.int32), (1, 0))
    return _segment_sum(bags.rows_N, weight_PD, offsets_G, bags.weights_N)


def rowwise_adagrad_(
    weight_PD: Tensor,
    sums_PC: Tensor,
    bags: Bags,
    grad_GD: Tensor,
    *,
    lr: float,
    eps: float,
    scale: float = 1.0,
) -> None:
    """Updates the rows that ``bags`` name, in place.

    Args:
        grad_GD: gradient of the loss with respect to ``sum_bags``, before it is multiplied by ``scale``.
    """
    sorted_N, order_N = bags.rows_N.sort(stable=True)
    rows_J, counts_J = torch.unique_consecutive(sorted_N, return_counts=True)
    offsets_J = F.pad(counts_J.cumsum(0), (1, 0))
    index_G = torch.arange(len(bags.lengths_G), device=grad_GD.device)
    bag_of_N = index_G.repeat_interleave(bags.lengths_G, output_size=len(order_N))[order_N]
    weights_N = None if bags.weights_N is None else bags.weights_N[order_N]
    size = CACHED_ROWS if weight_PD.device.type == "cpu" else max(len(rows_J), 1)
    for start in range(0, len(rows_J), size):
        stop = min(start + size, len(rows_J))
        part = slice(int(offsets_J[start]), int(offsets_J[stop]))
        # A row's gradient is a sum over bags, as a bag is one over rows: no [N, D] is made.
        offsets = offsets_J[start : stop + 1] - part.start
        grad_JD = _segment_sum(
            bag_of_N[part], grad_GD, offsets, None if weights_N is None else weights_N[part]
        )
        _step(weight_PD, sums_PC, rows_J[start:stop].long(), grad_JD.mul_(scale), lr, eps)


def _step(weight_PD: Tensor, sums_PC: Tensor, rows_J: Tensor, grad_JD: Tensor, lr: float, eps: float) -> None:
    grad_JCd = grad_JD.view(len(rows_J), sums_PC.shape[1], -1)
    squares_JC = torch.linalg.vector_norm(grad_JCd, dim=-1).square_()
    sums_PC.index_add_(0, rows_J, squares_JC.div_(grad_JCd.shape[-1]))
    grad_JCd.mul_((-lr / (sums_PC.index_select(0, rows_J).sqrt_() + eps)).unsqueeze(-1))
    if weight_PD.device.type == "cpu":
        # Fetches the rows into the cache ahead of index_add_, which would wait for one after the other.
        _segment_sum(rows_J, weight_PD, torch.tensor([0, len(rows_J)]), None)
    weight_PD.index_add_(0, rows_J, grad_JD)


def _segment_sum(index_N: Tensor, values: Tensor, offsets: Tensor, weights_N: Tensor | None) -> Tensor:
    return F.embedding_bag(
        index_N, values, offsets, mode="sum", include_last_offset=True, per_sample_weights=weights_N
    )
