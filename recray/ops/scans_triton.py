"""The Triton kernels behind ``scans``, each with its backward pass.

A program scans one row for a block of poles or channels, its state in registers. The selective scan keeps
the state of every CHUNK-th step and computes those between again. What is summed over programs goes to a
place of its own per program and is summed by PyTorch: results repeat bit for bit. All is float32.

Without CUDA they run under Triton's interpreter (``TRITON_INTERPRET=1`` before this file is imported).

Shapes: N values, B rows, P complex poles, E channels, S states of a channel, W blocks of channels or poles.
"""

# Kernels are compiled from their source: their arguments have no Python types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# mypy: disable-error-code="import-untyped, import-not-found"

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from recray.autograd import AutogradContext

POLES = 32  # poles a program handles
CHANNELS = 4  # channels a program handles
CHUNK = 16  # steps from one kept state to the next


@triton.jit
def _hold(pole_re, pole_im, duration, SLOPE: tl.constexpr):
    """e^z, h = (e^z - 1) / L and, with SLOPE, dh/dL (else 0), z = L D: see ``scans._zero_order_hold``."""
    z_re, z_im = pole_re * duration, pole_im * duration
    wide = z_im.to(tl.float64)  # 1e9 radians keep their fraction
    angle = (wide - tl.floor(wide * 0.15915494309189535 + 0.5) * 6.283185307179586).to(tl.float32)
    size = tl.exp(z_re)
    e_re, e_im = size * tl.cos(angle), size * tl.sin(angle)
    square = z_re * z_re + z_im * z_im
    small = square < 0.25
    # 1 / L, times what is 0 in the series' part: L = 0 has no inverse
    norm = pole_re * pole_re + pole_im * pole_im
    norm = tl.where(small, 1.0, norm)
    i_re, i_im = pole_re / norm, -pole_im / norm
    x, y = tl.where(small, z_re, 0.0), tl.where(small, z_im, 0.0)
    s_re, s_im = tl.zeros_like(x) + 1.0, tl.zeros_like(x)
    d_re, d_im = tl.zeros_like(x), tl.zeros_like(x)
    for j in tl.static_range(9):  # 1 + z/2 (1 + z/3 (1 + ...)), and its derivative
        if SLOPE:
            d_re, d_im = (s_re + x * d_re - y * d_im) / (10 - j), (s_im + x * d_im + y * d_re) / (10 - j)
        s_re, s_im = 1.0 + (x * s_re - y * s_im) / (10 - j), (x * s_im + y * s_re) / (10 - j)
    h_re = tl.where(small, duration * s_re, (e_re - 1.0) * i_re - e_im * i_im)
    h_im = tl.where(small, duration * s_im, (e_re - 1.0) * i_im + e_im * i_re)
    if SLOPE:
        n_re, n_im = duration * e_re - h_re, duration * e_im - h_im
        d_re = tl.where(small, duration * duration * d_re, n_re * i_re - n_im * i_im)
        d_im = tl.where(small, duration * duration * d_im, n_re * i_im + n_im * i_re)
    return e_re, e_im, h_re, h_im, d_re, d_im


@triton.jit
def _s5_forward(inputs, intervals, poles, rates, offsets, states, P, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    p = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = p < P
    pole_re = tl.load(poles + 2 * p, mask=real, other=0.0)
    pole_im = tl.load(poles + 2 * p + 1, mask=real, other=0.0)
    rate = tl.load(rates + p, mask=real, other=0.0)
    x_re, x_im = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for k in range(tl.load(offsets + row), tl.load(offsets + row + 1)):
        at = (k * P + p) * 2
        u_re = tl.load(inputs + at, mask=real, other=0.0)
        u_im = tl.load(inputs + at + 1, mask=real, other=0.0)
        a, b, h_re, h_im, _, _ = _hold(pole_re, pole_im, tl.load(intervals + k) * rate, False)
        next_re = a * x_re - b * x_im + h_re * u_re - h_im * u_im
        x_im = a * x_im + b * x_re + h_re * u_im + h_im * u_re
        x_re = next_re
        tl.store(states + at, x_re, mask=real)
        tl.store(states + at + 1, x_im, mask=real)


@triton.jit
def _s5_backward(
    inputs, intervals, poles, rates, offsets, states, grad,
    d_inputs, d_intervals, d_poles, d_rates, N, P, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    p = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = p < P
    pole_re = tl.load(poles + 2 * p, mask=real, other=0.0)
    pole_im = tl.load(poles + 2 * p + 1, mask=real, other=0.0)
    rate = tl.load(rates + p, mask=real, other=0.0)
    start, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    back_re, back_im = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    d_re, d_im = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    d_rate = tl.zeros((BLOCK,), tl.float32)
    for step in range(end - start):
        k = end - 1 - step
        at = (k * P + p) * 2
        interval = tl.load(intervals + k)
        duration = interval * rate
        a, b, h_re, h_im, s_re, s_im = _hold(pole_re, pole_im, duration, True)
        g_re = tl.load(grad + at, mask=real, other=0.0) + back_re
        g_im = tl.load(grad + at + 1, mask=real, other=0.0) + back_im
        tl.store(d_inputs + at, h_re * g_re + h_im * g_im, mask=real)
        tl.store(d_inputs + at + 1, h_re * g_im - h_im * g_re, mask=real)
        back_re, back_im = a * g_re + b * g_im, a * g_im - b * g_re
        had = real & (tl.zeros_like(p) + k > start)
        x_re = tl.load(states + at - 2 * P, mask=had, other=0.0)
        x_im = tl.load(states + at - 2 * P + 1, mask=had, other=0.0)
        u_re = tl.load(inputs + at, mask=real, other=0.0)
        u_im = tl.load(inputs + at + 1, mask=real, other=0.0)
        e_re, e_im = x_re * back_re + x_im * back_im, x_re * back_im - x_im * back_re
        w_re, w_im = u_re * g_re + u_im * g_im, u_re * g_im - u_im * g_re
        d_duration = pole_re * e_re + pole_im * e_im + a * w_re + b * w_im
        tl.store(d_intervals + tl.program_id(1) * N + k, tl.sum(d_duration * rate, 0))
        d_rate += d_duration * interval
        d_re += duration * e_re + s_re * w_re + s_im * w_im
        d_im += duration * e_im + s_re * w_im - s_im * w_re
    at_row = row.to(tl.int64) * P + p
    tl.store(d_rates + at_row, d_rate, mask=real)
    tl.store(d_poles + 2 * at_row, d_re, mask=real)
    tl.store(d_poles + 2 * at_row + 1, d_im, mask=real)


@triton.jit
def _selective_forward(
    u, delta, A, B, C, D, offsets, chunk_offsets, y, kept, E, S,
    BLOCK: tl.constexpr, STATES: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    e = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    s = tl.arange(0, STATES)
    is_e, is_s = e < E, s < S
    at_es, is_es = e[:, None] * S + s[None, :], is_e[:, None] & is_s[None, :]
    rate = tl.load(A + at_es, mask=is_es, other=0.0)
    skip = tl.load(D + e, mask=is_e, other=0.0)
    start, chunk = tl.load(offsets + row), tl.load(chunk_offsets + row)
    h = tl.zeros((BLOCK, STATES), tl.float32)
    for step in range(tl.load(offsets + row + 1) - start):
        if step % STEPS == 0:
            tl.store(kept + (chunk + step // STEPS) * E * S + at_es, h, mask=is_es)
        t = start + step
        value = tl.load(u + t * E + e, mask=is_e, other=0.0)
        size = tl.load(delta + t * E + e, mask=is_e, other=0.0)
        b = tl.load(B + t * S + s, mask=is_s, other=0.0)
        c = tl.load(C + t * S + s, mask=is_s, other=0.0)
        h = tl.exp(size[:, None] * rate) * h + (size * value)[:, None] * b[None, :]
        tl.store(y + t * E + e, tl.sum(h * c[None, :], 1) + skip * value, mask=is_e)


@triton.jit
def _selective_backward(
    u, delta, A, B, C, D, offsets, chunk_offsets, kept, scratch, grad,
    d_u, d_delta, d_A, d_B, d_C, d_D, N, E, S,
    BLOCK: tl.constexpr, STATES: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """scratch: the states before each step of one chunk, for every program."""
    row, block = tl.program_id(0), tl.program_id(1)
    e = block * BLOCK + tl.arange(0, BLOCK)
    s = tl.arange(0, STATES)
    is_e, is_s = e < E, s < S
    at_es, is_es = e[:, None] * S + s[None, :], is_e[:, None] & is_s[None, :]
    rate = tl.load(A + at_es, mask=is_es, other=0.0)
    skip = tl.load(D + e, mask=is_e, other=0.0)
    start, end, first = tl.load(offsets + row), tl.load(offsets + row + 1), tl.load(chunk_offsets + row)
    own = row.to(tl.int64) * STEPS * E * S + at_es
    g = tl.zeros((BLOCK, STATES), tl.float32)
    d_rate = tl.zeros((BLOCK, STATES), tl.float32)
    d_skip = tl.zeros((BLOCK,), tl.float32)
    chunks = tl.cdiv(end - start, STEPS)
    for back in range(chunks):
        chunk = chunks - 1 - back
        h = tl.load(kept + (first + chunk) * E * S + at_es, mask=is_es, other=0.0)
        begin = start + chunk * STEPS
        steps = tl.minimum(end - begin, STEPS)
        for step in range(steps):
            tl.store(scratch + own + step * E * S, h, mask=is_es)
            t = begin + step
            value = tl.load(u + t * E + e, mask=is_e, other=0.0)
            size = tl.load(delta + t * E + e, mask=is_e, other=0.0)
            b = tl.load(B + t * S + s, mask=is_s, other=0.0)
            h = tl.exp(size[:, None] * rate) * h + (size * value)[:, None] * b[None, :]
        tl.debug_barrier()
        for step in range(steps):
            t = begin + steps - 1 - step
            before = tl.load(scratch + own + (steps - 1 - step) * E * S, mask=is_es, other=0.0)
            value = tl.load(u + t * E + e, mask=is_e, other=0.0)
            size = tl.load(delta + t * E + e, mask=is_e, other=0.0)
            b = tl.load(B + t * S + s, mask=is_s, other=0.0)
            c = tl.load(C + t * S + s, mask=is_s, other=0.0)
            slope = tl.load(grad + t * E + e, mask=is_e, other=0.0)
            g += slope[:, None] * c[None, :]
            at = (block.to(tl.int64) * N + t) * S + s
            tl.store(d_C + at, tl.sum(slope[:, None] * h, 0), mask=is_s)
            tl.store(d_B + at, tl.sum(g * (size * value)[:, None], 0), mask=is_s)
            d_scaled = tl.sum(g * b[None, :], 1)
            g *= tl.exp(size[:, None] * rate)
            by_decay = g * before
            d_rate += by_decay * size[:, None]
            d_skip += slope * value
            d_size = d_scaled * value + tl.sum(by_decay * rate, 1)
            tl.store(d_u + t * E + e, d_scaled * size + slope * skip, mask=is_e)
            tl.store(d_delta + t * E + e, d_size, mask=is_e)
            h = before
        tl.debug_barrier()
    tl.store(d_A + row.to(tl.int64) * E * S + at_es, d_rate, mask=is_es)
    tl.store(d_D + row.to(tl.int64) * E + e, d_skip, mask=is_e)


class _S5Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, *tensors: Tensor) -> Tensor:
        inputs, intervals, poles, rates, offsets_B = map(_floats, tensors)
        states = torch.empty_like(inputs)
        if states.numel():
            grid = (len(offsets_B) - 1, triton.cdiv(len(rates), POLES))
            _s5_forward[grid](
                inputs, intervals, poles, rates, offsets_B, states, len(rates), POLES, num_warps=1
            )
        ctx.save_for_backward(inputs, intervals, poles, rates, offsets_B, states)
        return torch.view_as_complex(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: AutogradContext, grad_NP: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        inputs, intervals, poles, rates, offsets_B, _ = saved
        num_rows, blocks = len(offsets_B) - 1, triton.cdiv(len(rates), POLES)
        d_inputs, d_intervals_WN = torch.empty_like(inputs), intervals.new_zeros(blocks, len(intervals))
        d_poles, d_rates = poles.new_zeros(num_rows, *poles.shape), rates.new_zeros(num_rows, len(rates))
        if inputs.numel():
            _s5_backward[num_rows, blocks](
                *saved,
                _floats(grad_NP),
                d_inputs,
                d_intervals_WN,
                d_poles,
                d_rates,
                *inputs.shape[:2],
                POLES,
                num_warps=1,
            )
        d_poles_P = torch.view_as_complex(d_poles.sum(0))
        return torch.view_as_complex(d_inputs), d_intervals_WN.sum(0), d_poles_P, d_rates.sum(0), None


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, *tensors: Tensor) -> Tensor:
        tensors = tuple(map(_floats, tensors))
        u_NE, A_ES, offsets_B = tensors[0], tensors[2], tensors[-1]
        num_rows, num_states = len(offsets_B) - 1, A_ES.shape[1]
        chunks_B = (offsets_B.diff() + CHUNK - 1) // CHUNK
        chunk_offsets_B = torch.nn.functional.pad(chunks_B.cumsum(0), (1, 0))
        kept = A_ES.new_empty(len(u_NE) // CHUNK + num_rows, *A_ES.shape)  # at least as many as chunks
        y_NE = torch.empty_like(u_NE)
        if y_NE.numel():
            grid = (num_rows, triton.cdiv(len(A_ES), CHANNELS))
            sizes = (*A_ES.shape, CHANNELS, triton.next_power_of_2(max(1, num_states)), CHUNK)
            _selective_forward[grid](*tensors, chunk_offsets_B, y_NE, kept, *sizes, num_warps=1)
        ctx.save_for_backward(*tensors, chunk_offsets_B, kept)
        return y_NE

    @staticmethod
    @once_differentiable
    def backward(ctx: AutogradContext, grad_NE: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        u_NE, _, A_ES, B_NS, _, D_E, offsets_B = saved[:7]
        num_rows, blocks = len(offsets_B) - 1, triton.cdiv(len(A_ES), CHANNELS)
        d_u_NE, d_delta_NE = torch.empty_like(u_NE), torch.empty_like(u_NE)
        d_A, d_D = A_ES.new_zeros(num_rows, *A_ES.shape), D_E.new_zeros(num_rows, len(D_E))
        d_B_WNS, d_C_WNS = B_NS.new_zeros(2, blocks, *B_NS.shape)
        if u_NE.numel():
            scratch = A_ES.new_empty(num_rows, CHUNK, *A_ES.shape)
            sizes = (*A_ES.shape, CHANNELS, triton.next_power_of_2(max(1, A_ES.shape[1])), CHUNK)
            _selective_backward[num_rows, blocks](
                *saved, scratch, _floats(grad_NE),
                d_u_NE, d_delta_NE, d_A, d_B_WNS, d_C_WNS, d_D, len(u_NE), *sizes, num_warps=1,
            )  # fmt: skip
        return d_u_NE, d_delta_NE, d_A.sum(0), d_B_WNS.sum(0), d_C_WNS.sum(0), d_D.sum(0), None


def _floats(values: Tensor) -> Tensor:
    """As the kernels read it: contiguous, a complex number as two."""
    values = values.detach().resolve_conj().contiguous()
    return torch.view_as_real(values) if values.is_complex() else values


def s5_scan(*tensors: Tensor) -> Tensor:
    states_NP: Tensor = _S5Scan.apply(*tensors)
    return states_NP


def selective_scan(*tensors: Tensor) -> Tensor:
    y_NE: Tensor = _SelectiveScan.apply(*tensors)
    return y_NE
