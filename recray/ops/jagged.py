"""Rows of different lengths, end to end or padded: PyTorch twins, and Triton kernels where CUDA is.

``values_N*`` holds the rows end to end, row b is ``values[offsets_B[b]:offsets_B[b + 1]]``; offsets are
int64, B + 1 entries. Both backends give equal results and gradients; only ``jagged_triton`` imports
triton, and only when it is used.

Shapes: B rows, N values, T positions of padded rows, H heads, D width.
"""

import functools
import importlib
import logging
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from recray.config import ConfigError

log = logging.getLogger(__name__)

Backend = Literal["auto", "torch", "triton"]
"""auto: triton where the tensors are on CUDA, else torch."""


def to_padded(
    values_ND: Tensor, offsets_B: Tensor, max_length: int, fill: float = 0.0, *, backend: Backend = "auto"
) -> Tensor:
    """padded_BTD with T = ``max_length``; any trailing dimensions, none included, and any dtype.

    A row longer than T loses its tail, a shorter one ends in ``fill``. May share memory with ``values_ND``.
    """
    if _use_triton(values_ND, backend):
        padded_BTD: Tensor = _triton().to_padded(values_ND, offsets_B, max_length, fill)
        return padded_BTD
    num_rows = len(offsets_B) - 1
    if _is_full(values_ND, offsets_B, max_length):
        return values_ND.reshape(num_rows, max_length, *values_ND.shape[1:])
    position_N, row_N = _positions(offsets_B, len(values_ND))
    # Tails go to one more line, which is cut off again: no step waits for the device.
    at_N = torch.where(position_N < max_length, row_N * max_length + position_N, num_rows * max_length)
    lines = values_ND.new_full((num_rows * max_length + 1, *values_ND.shape[1:]), fill)
    padded = lines.index_copy_(0, at_N, values_ND)[:-1]
    return padded.view(num_rows, max_length, *values_ND.shape[1:])


def from_padded(padded_BTD: Tensor, offsets_B: Tensor, *, backend: Backend = "auto") -> Tensor:
    """values_ND: the rows of ``padded_BTD`` without their padding; T is at least the longest row.

    May share memory with ``padded_BTD``.
    """
    max_length = padded_BTD.shape[1]
    if len(offsets_B) == 1:
        return padded_BTD.flatten(0, 1)
    longest, total = torch.stack([offsets_B.diff().max(), offsets_B[-1]]).tolist()  # one wait for the device
    assert longest <= max_length, f"a row has {longest} values, its padded form {max_length}"
    if _use_triton(padded_BTD, backend):
        values_ND: Tensor = _triton().from_padded(padded_BTD, offsets_B, total)
        return values_ND
    if total == padded_BTD.shape[0] * max_length:  # no padding
        return padded_BTD.flatten(0, 1)
    position_N, row_N = _positions(offsets_B, total)
    return padded_BTD.flatten(0, 1).index_select(0, row_N * max_length + position_N)


def softmax(values_NH: Tensor, offsets_B: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Softmax over the values of each row; ``values_NH`` is float, [N] or [N, H]."""
    if _use_triton(values_NH, backend):
        share_NH: Tensor = _triton().softmax(values_NH, offsets_B)
        return share_NH
    num_rows, tail = len(offsets_B) - 1, values_NH.shape[1:]
    _, row_N = _positions(offsets_B, len(values_NH))
    scores_NH = values_NH.float()
    highest_BH = scores_NH.new_full((num_rows, *tail), float("-inf"))
    at_NH = row_N.view(-1, *[1] * len(tail)).expand(scores_NH.shape)
    highest_BH.scatter_reduce_(0, at_NH, scores_NH.detach(), "amax")
    exp_NH = (scores_NH - highest_BH[row_N]).exp()
    sum_BH = torch.zeros_like(highest_BH).index_add(0, row_N, exp_NH)
    return (exp_NH / sum_BH[row_N]).to(values_NH.dtype)


def mean(values_ND: Tensor, offsets_B: Tensor, *, backend: Backend = "auto") -> Tensor:
    """mean_BD over the values of each row, 0 for an empty one; ``values_ND`` is float, [N] or [N, D]."""
    if _use_triton(values_ND, backend):
        mean_BD: Tensor = _triton().mean(values_ND, offsets_B)
        return mean_BD
    num_rows, tail = len(offsets_B) - 1, values_ND.shape[1:]
    _, row_N = _positions(offsets_B, len(values_ND))
    sum_BD = values_ND.new_zeros((num_rows, *tail), dtype=torch.float32).index_add(
        0, row_N, values_ND.float()
    )
    count_B = offsets_B.diff().clamp(min=1).view(-1, *[1] * len(tail))
    return (sum_BD / count_B).to(values_ND.dtype)


def attention_mask(
    query_offsets_B: Tensor,
    key_offsets_B: Tensor,
    query_positions_N: Tensor | None,
    key_positions_N: Tensor | None,
    max_queries: int,
    max_keys: int,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """mask_BTS: whether query t of row b may look at key s of row b, for rows padded to T and S.

    Both exist, and the key's position is not after the query's. Padding sees nothing, so a softmax over
    its scores has no value.

    Args:
        query_positions_N, key_positions_N: int64, jagged like their offsets; None, both or neither: a query
            sees all keys of its row.
    """
    assert (query_positions_N is None) == (key_positions_N is None), "give both positions, or neither"
    if _use_triton(query_offsets_B, backend):
        positions = query_positions_N, key_positions_N
        sees_BTS: Tensor = _triton().attention_mask(
            query_offsets_B, key_offsets_B, *positions, max_queries, max_keys
        )
        return sees_BTS
    is_query_BT = _exists(query_offsets_B, max_queries)
    mask_BTS = is_query_BT[:, :, None] & _exists(key_offsets_B, max_keys)[:, None]
    if query_positions_N is not None and key_positions_N is not None:
        query_BT = to_padded(query_positions_N, query_offsets_B, max_queries, backend="torch")
        key_BS = to_padded(key_positions_N, key_offsets_B, max_keys, backend="torch")
        mask_BTS &= key_BS[:, None] <= query_BT[:, :, None]
    return mask_BTS


def _positions(offsets_B: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """(position within its row, row) of each value."""
    row_B = torch.arange(len(offsets_B) - 1, device=offsets_B.device)
    row_N = row_B.repeat_interleave(offsets_B.diff(), output_size=total)
    return torch.arange(total, device=offsets_B.device) - offsets_B[row_N], row_N


def _is_full(values_ND: Tensor, offsets_B: Tensor, max_length: int) -> bool:
    """Whether all rows have ``max_length`` values; not asked on devices that would have to be waited for."""
    if values_ND.device.type != "cpu" or len(values_ND) != (len(offsets_B) - 1) * max_length:
        return False
    return bool((offsets_B.diff() == max_length).all())


def _exists(offsets_B: Tensor, max_length: int) -> Tensor:
    """exists_BT: positions that a padded row has values at."""
    return torch.arange(max_length, device=offsets_B.device) < offsets_B.diff()[:, None]


def _use_triton(tensor: Tensor, backend: Backend) -> bool:
    """Whether the kernels are to be used.

    Raises:
        ConfigError: triton is asked for by name and not installed.
    """
    if backend == "triton":
        _triton()
        return True
    if backend != "auto" or tensor.device.type != "cuda":
        return False
    return _triton_on_cuda()


@functools.cache
def _triton_on_cuda() -> bool:
    """Decided and announced once."""
    try:
        _triton()
    except ConfigError as error:
        log.warning("jagged operations on CUDA run in plain PyTorch, which is slower: %s", error)
        return False
    log.info("jagged operations on CUDA use the Triton kernels")
    return True


@functools.cache
def _triton() -> ModuleType:
    try:
        return importlib.import_module("recray.ops.jagged_triton")
    except ImportError as error:
        raise ConfigError(f"triton is not installed ({error}): pip install 'recray[gpu]'") from error
