"""The Triton kernels behind ``jagged``, each with its backward pass. Only this file imports triton.

Without CUDA they run under Triton's interpreter (``TRITON_INTERPRET=1`` before this file is imported):
slow, but the same logic. Trailing dimensions are flattened to one, D. Sums are taken in float32.

Shapes: B rows, N values, T positions of padded rows, D width, S keys of padded rows.
"""

# Kernels are compiled from their source: their arguments have no Python types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# mypy: disable-error-code="import-untyped, import-not-found"

from typing import Protocol

import torch
import triton
import triton.language as tl
from torch import Tensor

from recray.autograd import AutogradContext

BLOCK = 32  # positions a program handles at a time
WIDTH = 64  # columns a program handles at a time


@triton.jit
def _pad_kernel(
    values, offsets, padded, fill, max_length, width, block: tl.constexpr, block_width: tl.constexpr
):
    row = tl.program_id(0)
    start = tl.load(offsets + row)
    length = tl.load(offsets + row + 1) - start
    position = tl.program_id(1) * block + tl.arange(0, block)
    column = tl.program_id(2) * block_width + tl.arange(0, block_width)
    inside = (position < max_length)[:, None] & (column < width)[None, :]
    exists = (position < length)[:, None] & inside
    value = tl.load(values + (start + position)[:, None] * width + column[None, :], mask=exists, other=0)
    value = tl.where(exists, value, tl.load(fill))
    at = (row.to(tl.int64) * max_length + position)[:, None] * width + column[None, :]
    tl.store(padded + at, value, mask=inside)


@triton.jit
def _unpad_kernel(padded, offsets, values, max_length, width, block: tl.constexpr, block_width: tl.constexpr):
    row = tl.program_id(0)
    start = tl.load(offsets + row)
    length = tl.load(offsets + row + 1) - start
    position = tl.program_id(1) * block + tl.arange(0, block)
    column = tl.program_id(2) * block_width + tl.arange(0, block_width)
    exists = ((position < length) & (position < max_length))[:, None] & (column < width)[None, :]
    at = (row.to(tl.int64) * max_length + position)[:, None] * width + column[None, :]
    value = tl.load(padded + at, mask=exists, other=0)
    tl.store(values + (start + position)[:, None] * width + column[None, :], value, mask=exists)


@triton.jit
def _softmax_kernel(values, offsets, out, width, block: tl.constexpr):
    row, column = tl.program_id(0), tl.program_id(1)
    start, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    steps = tl.cdiv(end - start, block)
    lane = tl.arange(0, block)
    highest = tl.full((block,), float("-inf"), tl.float32)
    for step in range(steps):
        at = start + step * block + lane
        value = tl.load(values + at * width + column, mask=at < end, other=float("-inf"))
        highest = tl.maximum(highest, value.to(tl.float32))
    top = tl.max(highest, 0)
    total = tl.zeros((block,), tl.float32)
    for step in range(steps):
        at = start + step * block + lane
        value = tl.load(values + at * width + column, mask=at < end, other=float("-inf"))
        total += tl.where(at < end, tl.exp(value.to(tl.float32) - top), 0.0)
    whole = tl.sum(total, 0)
    for step in range(steps):
        at = start + step * block + lane
        value = tl.load(values + at * width + column, mask=at < end, other=float("-inf"))
        share = tl.exp(value.to(tl.float32) - top) / whole
        tl.store(out + at * width + column, share.to(value.dtype), mask=at < end)


@triton.jit
def _softmax_backward_kernel(out, grad, offsets, result, width, block: tl.constexpr):
    row, column = tl.program_id(0), tl.program_id(1)
    start, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    steps = tl.cdiv(end - start, block)
    lane = tl.arange(0, block)
    dot = tl.zeros((block,), tl.float32)
    for step in range(steps):
        at = start + step * block + lane
        share = tl.load(out + at * width + column, mask=at < end, other=0).to(tl.float32)
        dot += share * tl.load(grad + at * width + column, mask=at < end, other=0).to(tl.float32)
    whole = tl.sum(dot, 0)
    for step in range(steps):
        at = start + step * block + lane
        share = tl.load(out + at * width + column, mask=at < end, other=0)
        slope = tl.load(grad + at * width + column, mask=at < end, other=0).to(tl.float32)
        value = share.to(tl.float32) * (slope - whole)
        tl.store(result + at * width + column, value.to(share.dtype), mask=at < end)


@triton.jit
def _mean_kernel(values, offsets, out, width, block: tl.constexpr, block_width: tl.constexpr):
    row = tl.program_id(0)
    start, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    column = tl.program_id(1) * block_width + tl.arange(0, block_width)
    total = tl.zeros((block, block_width), tl.float32)
    for step in range(tl.cdiv(end - start, block)):
        at = start + step * block + tl.arange(0, block)
        exists = (at < end)[:, None] & (column < width)[None, :]
        value = tl.load(values + at[:, None] * width + column[None, :], mask=exists, other=0)
        total += value.to(tl.float32)
    average = tl.sum(total, 0) / tl.maximum(end - start, 1).to(tl.float32)
    tl.store(out + row.to(tl.int64) * width + column, average, mask=column < width)


@triton.jit
def _mean_backward_kernel(grad, offsets, result, width, block: tl.constexpr, block_width: tl.constexpr):
    row = tl.program_id(0)
    start, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    column = tl.program_id(1) * block_width + tl.arange(0, block_width)
    slope = tl.load(grad + row.to(tl.int64) * width + column, mask=column < width, other=0)
    each = slope.to(tl.float32) / tl.maximum(end - start, 1).to(tl.float32)
    for step in range(tl.cdiv(end - start, block)):
        at = start + step * block + tl.arange(0, block)
        exists = (at < end)[:, None] & (column < width)[None, :]
        value = tl.broadcast_to(each[None, :], (block, block_width))
        tl.store(result + at[:, None] * width + column[None, :], value, mask=exists)


@triton.jit
def _mask_kernel(
    query_offsets,
    key_offsets,
    query_positions,
    key_positions,
    mask,
    max_queries,
    max_keys,
    positions: tl.constexpr,
    block: tl.constexpr,
    block_width: tl.constexpr,
):
    row = tl.program_id(0)
    query_start, key_start = tl.load(query_offsets + row), tl.load(key_offsets + row)
    query = tl.program_id(1) * block + tl.arange(0, block)
    key = tl.program_id(2) * block_width + tl.arange(0, block_width)
    is_query = query < tl.load(query_offsets + row + 1) - query_start
    is_key = key < tl.load(key_offsets + row + 1) - key_start
    sees = is_query[:, None] & is_key[None, :]
    if positions:
        query_at = tl.load(query_positions + query_start + query, mask=is_query, other=0)
        key_at = tl.load(key_positions + key_start + key, mask=is_key, other=0)
        sees = sees & (key_at[None, :] <= query_at[:, None])
    at = (row.to(tl.int64) * max_queries + query)[:, None] * max_keys + key[None, :]
    tl.store(mask + at, sees, mask=(query < max_queries)[:, None] & (key < max_keys)[None, :])


def _pad(values_ND: Tensor, offsets_B: Tensor, max_length: int, fill: float) -> Tensor:
    values_ND = values_ND.contiguous()
    num_rows, width = len(offsets_B) - 1, values_ND.shape[1]
    padded_BTD = values_ND.new_empty(num_rows, max_length, width)
    if padded_BTD.numel():
        grid = (num_rows, triton.cdiv(max_length, BLOCK), triton.cdiv(width, WIDTH))
        # A tensor, so that an integer's fill is not rounded through float32.
        fill_1 = torch.full((1,), fill, dtype=values_ND.dtype, device=values_ND.device)
        _pad_kernel[grid](values_ND, offsets_B, padded_BTD, fill_1, max_length, width, BLOCK, WIDTH)
    return padded_BTD


def _unpad(padded_BTD: Tensor, offsets_B: Tensor, total: int) -> Tensor:
    """Values whose position is outside the padded form are 0."""
    padded_BTD = padded_BTD.contiguous()
    num_rows, max_length, width = padded_BTD.shape
    values_ND = padded_BTD.new_zeros(total, width)
    if padded_BTD.numel() and total:
        grid = (num_rows, triton.cdiv(max_length, BLOCK), triton.cdiv(width, WIDTH))
        _unpad_kernel[grid](padded_BTD, offsets_B, values_ND, max_length, width, BLOCK, WIDTH)
    return values_ND


class _RowsContext(AutogradContext, Protocol):
    total: int


class _PaddedContext(AutogradContext, Protocol):
    max_length: int


class _ToPadded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _RowsContext, values_ND: Tensor, offsets_B: Tensor, max_length: int, fill: float
    ) -> Tensor:
        ctx.save_for_backward(offsets_B)
        ctx.total = len(values_ND)
        return _pad(values_ND, offsets_B, max_length, fill)

    @staticmethod
    def backward(ctx: _RowsContext, grad_BTD: Tensor) -> tuple[Tensor, None, None, None]:
        (offsets_B,) = ctx.saved_tensors
        return _unpad(grad_BTD, offsets_B, ctx.total), None, None, None


class _FromPadded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _PaddedContext, padded_BTD: Tensor, offsets_B: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(offsets_B)
        ctx.max_length = padded_BTD.shape[1]
        return _unpad(padded_BTD, offsets_B, total)

    @staticmethod
    def backward(ctx: _PaddedContext, grad_ND: Tensor) -> tuple[Tensor, None, None]:
        (offsets_B,) = ctx.saved_tensors
        return _pad(grad_ND, offsets_B, ctx.max_length, 0.0), None, None


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, values_ND: Tensor, offsets_B: Tensor) -> Tensor:
        values_ND = values_ND.contiguous()
        out_ND = torch.empty_like(values_ND)
        if out_ND.numel():
            grid = (len(offsets_B) - 1, values_ND.shape[1])
            _softmax_kernel[grid](values_ND, offsets_B, out_ND, values_ND.shape[1], BLOCK)
        ctx.save_for_backward(out_ND, offsets_B)
        return out_ND

    @staticmethod
    def backward(ctx: AutogradContext, grad_ND: Tensor) -> tuple[Tensor, None]:
        out_ND, offsets_B = ctx.saved_tensors
        result_ND = torch.empty_like(out_ND)
        if out_ND.numel():
            grid = (len(offsets_B) - 1, out_ND.shape[1])
            _softmax_backward_kernel[grid](
                out_ND, grad_ND.contiguous(), offsets_B, result_ND, out_ND.shape[1], BLOCK
            )
        return result_ND, None


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _RowsContext, values_ND: Tensor, offsets_B: Tensor) -> Tensor:
        values_ND = values_ND.contiguous()
        num_rows, width = len(offsets_B) - 1, values_ND.shape[1]
        out_BD = values_ND.new_empty(num_rows, width)
        if out_BD.numel():
            grid = (num_rows, triton.cdiv(width, WIDTH))
            _mean_kernel[grid](values_ND, offsets_B, out_BD, width, BLOCK, WIDTH)
        ctx.save_for_backward(offsets_B)
        ctx.total = len(values_ND)
        return out_BD

    @staticmethod
    def backward(ctx: _RowsContext, grad_BD: Tensor) -> tuple[Tensor, None]:
        (offsets_B,) = ctx.saved_tensors
        num_rows, width = grad_BD.shape
        result_ND = grad_BD.new_empty(ctx.total, width)
        if result_ND.numel():
            grid = (num_rows, triton.cdiv(width, WIDTH))
            _mean_backward_kernel[grid](grad_BD.contiguous(), offsets_B, result_ND, width, BLOCK, WIDTH)
        return result_ND, None


def to_padded(values_ND: Tensor, offsets_B: Tensor, max_length: int, fill: float) -> Tensor:
    tail = values_ND.shape[1:]
    padded_BTD: Tensor = _ToPadded.apply(_flat(values_ND), offsets_B, max_length, fill)
    return padded_BTD.view(*padded_BTD.shape[:2], *tail)


def from_padded(padded_BTD: Tensor, offsets_B: Tensor, total: int) -> Tensor:
    tail = padded_BTD.shape[2:]
    flat_BTD = padded_BTD.reshape(*padded_BTD.shape[:2], tail.numel())
    values_ND: Tensor = _FromPadded.apply(flat_BTD, offsets_B, total)
    return values_ND.view(total, *tail)


def softmax(values_NH: Tensor, offsets_B: Tensor) -> Tensor:
    # In float32, also what the backward pass reads.
    out_NH: Tensor = _Softmax.apply(_flat(values_NH).float(), offsets_B)
    return out_NH.view(values_NH.shape).to(values_NH.dtype)


def mean(values_ND: Tensor, offsets_B: Tensor) -> Tensor:
    out_BD: Tensor = _Mean.apply(_flat(values_ND), offsets_B)
    return out_BD.view(len(out_BD), *values_ND.shape[1:])


def attention_mask(
    query_offsets_B: Tensor,
    key_offsets_B: Tensor,
    query_positions_N: Tensor | None,
    key_positions_N: Tensor | None,
    max_queries: int,
    max_keys: int,
) -> Tensor:
    num_rows, has_positions = len(query_offsets_B) - 1, query_positions_N is not None
    mask_BTS = torch.empty(num_rows, max_queries, max_keys, dtype=torch.bool, device=query_offsets_B.device)
    if mask_BTS.numel():
        grid = (num_rows, triton.cdiv(max_queries, BLOCK), triton.cdiv(max_keys, WIDTH))
        _mask_kernel[grid](
            query_offsets_B,
            key_offsets_B,
            query_positions_N.contiguous() if query_positions_N is not None else query_offsets_B,
            key_positions_N.contiguous() if key_positions_N is not None else key_offsets_B,
            mask_BTS,
            max_queries,
            max_keys,
            has_positions,
            BLOCK,
            WIDTH,
        )
    return mask_BTS


def _flat(values_ND: Tensor) -> Tensor:
    """[N, ...] as [N, D], D the product of what follows."""
    return values_ND.reshape(len(values_ND), values_ND.shape[1:].numel())
