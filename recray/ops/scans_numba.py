"""The CPU backend of ``scans``: its loops, compiled by numba, over rows dealt out to threads.

There are ``torch.get_num_threads()`` threads of its own (numba's threading is not safe to call from several).
A row is scanned from end to end by one thread; what is summed over rows is summed in the same order whatever
the number of threads, so results do not depend on it. All is float32.

Shapes: N values, B rows, P complex poles, E channels, S states of a channel, K taps.
"""

# mypy: disable-error-code="no-untyped-call"

import functools
import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recray.autograd import AutogradContext
from recray.ops import scans_numba_loops as loops

Array = np.ndarray[Any, Any]

SHARES = 16  # parts the rows are dealt out in: enough to balance threads, few enough to sum their gradients
SMALLEST_POLE = 1e-20  # below, a pole's inverse leaves float32

f32 = np.float32


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="scan")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has none of the threads


def _shares(offsets_B: Array) -> list[tuple[int, int]]:
    """(first row, row after the last) of at most SHARES runs of rows of about equal total length."""
    num_rows = len(offsets_B) - 1
    goals = np.linspace(0, offsets_B[-1], min(SHARES, num_rows) + 1)
    cuts = np.searchsorted(offsets_B, goals[:-1], side="left").tolist()
    return [(a, b) for a, b in itertools.pairwise([*cuts, num_rows]) if a < b]


def _deal(shares: list[tuple[int, int]], work: Callable[[int, int, int], None]) -> None:
    """Calls work(number of the share, first row, row after the last) for each, in threads."""
    threads = min(torch.get_num_threads(), len(shares))
    if threads <= 1:
        for i, (first, last) in enumerate(shares):
            work(i, first, last)
        return
    for done in [_pool(threads).submit(work, i, *share) for i, share in enumerate(shares)]:
        done.result()


def _array(values: Tensor) -> Array:
    """Its memory, a complex number as two in its last dimension."""
    values = values.detach().resolve_conj().contiguous()
    return (values.view(torch.float32) if values.is_complex() else values).numpy()


def _tensor(array: Array, is_complex: bool = False) -> Tensor:
    return torch.from_numpy(array.view(np.complex64) if is_complex else array)


class _S5Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, *tensors: Tensor) -> Tensor:
        inputs_NP, intervals_N, poles_P, rates_P, offsets_B = tensors
        poles_P = torch.where(poles_P.abs() < SMALLEST_POLE, -SMALLEST_POLE, poles_P)
        given = inputs_NP, intervals_N, poles_P, 1 / poles_P, rates_P, offsets_B
        inputs, intervals, poles, inverse, rates, offsets = map(_array, given)
        states = np.empty_like(inputs)

        def work(_: int, first: int, last: int) -> None:
            x_re, x_im = np.empty((2, len(rates)), f32)
            loops.s5_forward(
                first, last, offsets, inputs, intervals, poles, inverse, rates, states, x_re, x_im
            )

        _deal(_shares(offsets), work)
        states_NP = _tensor(states, is_complex=True)
        ctx.save_for_backward(*given, states_NP)
        return states_NP

    @staticmethod
    @once_differentiable
    def backward(ctx: AutogradContext, grad_NP: Tensor) -> tuple[Tensor | None, ...]:
        inputs, intervals, poles, inverse, rates, offsets, states = map(_array, ctx.saved_tensors)
        grad = _array(grad_NP)
        shares = _shares(offsets)
        d_inputs, d_intervals = np.empty_like(inputs), np.empty_like(intervals)
        d_poles, d_rates = (
            np.zeros((len(shares), *poles.shape), f32),
            np.zeros((len(shares), len(rates)), f32),
        )
        zeros = np.zeros_like(poles)

        def work(share: int, first: int, last: int) -> None:
            g_re, g_im = np.empty((2, len(rates)), f32)
            loops.s5_backward(
                first, last, offsets, inputs, intervals, poles, inverse, rates, states, zeros, grad,
                g_re, g_im, d_inputs, d_intervals, d_poles[share], d_rates[share],
            )  # fmt: skip

        _deal(shares, work)
        return (
            _tensor(d_inputs, is_complex=True), _tensor(d_intervals),
            _tensor(d_poles.sum(0), is_complex=True), _tensor(d_rates.sum(0)), None,
        )  # fmt: skip


def _whole_blocks(u_NE: Tensor, delta_NE: Tensor, A_ES: Tensor, D_E: Tensor) -> tuple[Array, ...]:
    """As the loops read them: zeros fill E up to whole blocks, and A is to the base of 2."""
    missing = -len(A_ES) % loops.LANES
    pad = torch.nn.functional.pad
    u_NE, delta_NE, D_E = (
        pad(values, (0, missing)) if missing else values for values in (u_NE, delta_NE, D_E)
    )
    return _array(u_NE), _array(delta_NE), _array(pad(A_ES / math.log(2), (0, 0, 0, missing))), _array(D_E)


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        u_NE, delta_NE, A_ES, B_NS, C_NS, D_E, offsets_B = tensors
        u, delta, A2, D = _whole_blocks(u_NE, delta_NE, A_ES, D_E)
        B, C, offsets = map(_array, (B_NS, C_NS, offsets_B))
        y = np.empty_like(u)

        def work(_: int, first: int, last: int) -> None:
            h, lanes = np.empty((loops.LANES, A2.shape[1]), f32), np.empty((3, loops.LANES), f32)
            loops.selective_forward(first, last, offsets, u, delta, A2, B, C, D, y, h, *lanes)

        _deal(_shares(offsets), work)
        return _tensor(y)[:, : len(A_ES)]

    @staticmethod
    @once_differentiable
    def backward(ctx: AutogradContext, grad_NE: Tensor) -> tuple[Tensor | None, ...]:
        u_NE, delta_NE, A_ES, B_NS, C_NS, D_E, offsets_B = ctx.saved_tensors
        u, delta, A2, D = _whole_blocks(u_NE, delta_NE, A_ES, D_E)
        grad = _array(torch.nn.functional.pad(grad_NE, (0, u.shape[1] - u_NE.shape[1])))
        B, C, offsets = map(_array, (B_NS, C_NS, offsets_B))
        shares, longest = _shares(offsets), int(np.diff(offsets).max(initial=0))
        d_u, d_delta, d_B, d_C = np.empty_like(u), np.empty_like(u), np.zeros_like(B), np.zeros_like(C)
        d_A, d_D = np.zeros((len(shares), *A2.shape), f32), np.zeros((len(shares), *D.shape), f32)

        def work(share: int, first: int, last: int) -> None:
            block = loops.LANES, A2.shape[1]
            decays, states = np.empty((longest, *block), f32), np.empty((longest + 1, *block), f32)
            states[0] = 0
            loops.selective_backward(
                first, last, offsets, u, delta, A2, B, C, D, grad,
                decays, states, np.empty(block, f32), *np.empty((6, loops.LANES), f32),
                d_u, d_delta, d_A[share], d_B, d_C, d_D[share],
            )  # fmt: skip

        _deal(shares, work)
        E = len(A_ES)
        by_u_NE, by_delta_NE = _tensor(d_u)[:, :E], _tensor(d_delta)[:, :E]
        by_A_ES, by_D_E = _tensor(d_A.sum(0))[:E], _tensor(d_D.sum(0))[:E]
        return by_u_NE, by_delta_NE, by_A_ES, _tensor(d_B), _tensor(d_C), by_D_E, None


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        x, weight, bias, offsets = map(_array, tensors)
        y, taps = np.empty_like(x), np.ascontiguousarray(weight.T[::-1])
        _deal(_shares(offsets), lambda _, a, b: loops.conv_forward(a, b, offsets, x, taps, bias, y))
        return _tensor(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: AutogradContext, grad_NE: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, offsets = map(_array, ctx.saved_tensors)
        taps, grad, shares = np.ascontiguousarray(weight.T[::-1]), _array(grad_NE), _shares(offsets)
        d_x = np.empty_like(x)
        d_taps, d_bias = np.zeros((len(shares), *taps.shape), f32), np.zeros((len(shares), *bias.shape), f32)

        def work(share: int, first: int, last: int) -> None:
            loops.conv_backward(first, last, offsets, x, taps, grad, d_x, d_taps[share], d_bias[share])

        _deal(shares, work)
        d_weight = np.ascontiguousarray(d_taps.sum(0)[::-1].T)
        return _tensor(d_x), _tensor(d_weight), _tensor(d_bias.sum(0)), None


def s5_scan(*tensors: Tensor) -> Tensor:
    states_NP: Tensor = _S5Scan.apply(*tensors)
    return states_NP


def selective_scan(*tensors: Tensor) -> Tensor:
    y_NE: Tensor = _SelectiveScan.apply(*tensors)
    return y_NE


def causal_conv1d(*tensors: Tensor) -> Tensor:
    y_NE: Tensor = _CausalConv.apply(*tensors)
    return y_NE
