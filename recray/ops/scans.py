"""Scans of state space models over jagged rows: one door, plain PyTorch, and compiled kernels behind it.

Rows lie end to end, row b is ``values[offsets_B[b]:offsets_B[b + 1]]`` (offsets: int64, B + 1 entries); the
state is 0 where a row starts. Every backend gives equal results and gradients, all first order only.

- ``torch`` runs on any device, in float32 or float64: recurrences by doubling, rows kept apart by a
  multiplier of 0 at their start. No product is divided by, so no step size overflows.
- ``numba``: compiled CPU kernels, float32. Only ``scans_numba`` imports it.
- ``triton``: kernels of ``scans_triton``, float32.
- ``mamba_ssm``: the selective scan of Mamba's authors, on padded rows, CUDA only.

Shapes: N values, B rows, P complex poles, E channels, S states of a channel, K taps, T longest row.
"""

# mypy: disable-error-code="no-untyped-call"

import functools
import importlib
import logging
import math
import os
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recray.autograd import AutogradContext
from recray.config import ConfigError
from recray.ops import jagged

log = logging.getLogger(__name__)

Backend = Literal["auto", "torch", "numba", "triton", "mamba_ssm"]
"""auto: on a CPU numba; on CUDA mamba_ssm where it is installed (selective scan), else triton; else torch."""

INSTALL = {
    "numba": "pip install numba",
    "triton": "pip install 'recray[gpu]'",
    "mamba_ssm": "pip install mamba-ssm (needs CUDA and its compiler), or backend='triton'",
}
CHUNK_SIZE = 2**22  # states the plain selective scan holds at a time


def s5_scan(
    inputs_NP: Tensor,
    intervals_N: Tensor,
    poles_P: Tensor,
    rates_P: Tensor,
    offsets_B: Tensor,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """States of a diagonal linear system whose steps differ in length: states_NP, complex.

    x_k = exp(L D_k) x_(k-1) + (exp(L D_k) - 1) / L * u_k with D_kp = intervals_k rates_p: a zero-order hold
    (S5, https://arxiv.org/abs/2208.04933, eq. 6). Exact for L D -> 0, where the hold is D, and for steps
    beyond any time constant, where it is -1 / L.

    Args:
        inputs_NP: complex, u = B times the input.
        intervals_N: float >= 0, time since the event before, in the unit of 1 / (rates L).
        poles_P: complex, L with a real part <= 0.
        rates_P: float, what scales time for each pole.

    Raises:
        ConfigError: shapes, dtypes or offsets do not fit together, or the backend cannot be had.
    """
    num_values, num_poles = _size(inputs_NP, "inputs_NP", 2), inputs_NP.shape[-1]
    complex_, real = inputs_NP.dtype, inputs_NP.real.dtype
    _expect("inputs_NP", inputs_NP, (num_values, num_poles), (torch.complex64, torch.complex128))
    _expect("intervals_N", intervals_N, (num_values,), (real,))
    _expect("poles_P", poles_P, (num_poles,), (complex_,))
    _expect("rates_P", rates_P, (num_poles,), (real,))
    _expect_offsets(offsets_B, inputs_NP)
    tensors = inputs_NP, intervals_N, poles_P, rates_P, offsets_B
    module = _kernels(backend, inputs_NP)
    states_NP: Tensor = module.s5_scan(*tensors) if module else _S5Scan.apply(*tensors)
    return states_NP


def selective_scan(
    u_NE: Tensor,
    delta_NE: Tensor,
    A_ES: Tensor,
    B_NS: Tensor,
    C_NS: Tensor,
    D_E: Tensor,
    offsets_B: Tensor,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Mamba's scan, whose step and matrices depend on the input: y_NE, float.

    h_t[e, s] = exp(delta_t[e] A[e, s]) h_(t-1)[e, s] + delta_t[e] B_t[s] u_t[e]
    y_t[e] = sum over s of C_t[s] h_t[e, s] + D[e] u_t[e]
    (https://arxiv.org/abs/2312.00752, eq. 2 to 4, B by Euler's step as in its reference). States are not
    kept for the backward pass, they are computed again.

    Args:
        delta_NE: step sizes >= 0.
        A_ES: < 0.

    Raises:
        ConfigError: as ``s5_scan``.
    """
    num_values, num_channels = _size(u_NE, "u_NE", 2), u_NE.shape[-1]
    num_states = _size(A_ES, "A_ES", 2) and A_ES.shape[-1]
    _expect("u_NE", u_NE, (num_values, num_channels), (torch.float32, torch.float64))
    _expect("delta_NE", delta_NE, (num_values, num_channels), (u_NE.dtype,))
    _expect("A_ES", A_ES, (num_channels, num_states), (u_NE.dtype,))
    _expect("B_NS", B_NS, (num_values, num_states), (u_NE.dtype,))
    _expect("C_NS", C_NS, (num_values, num_states), (u_NE.dtype,))
    _expect("D_E", D_E, (num_channels,), (u_NE.dtype,))
    _expect_offsets(offsets_B, u_NE)
    tensors = u_NE, delta_NE, A_ES, B_NS, C_NS, D_E, offsets_B
    if backend == "mamba_ssm" or (backend == "auto" and _has_mamba_ssm(u_NE)):
        return _mamba_ssm(*tensors)
    module = _kernels(backend, u_NE)
    y_NE: Tensor = module.selective_scan(*tensors) if module else _SelectiveScan.apply(*tensors)
    return y_NE


def causal_conv1d(
    x_NE: Tensor, weight_EK: Tensor, bias_E: Tensor, offsets_B: Tensor, *, backend: Backend = "auto"
) -> Tensor:
    """Each channel's convolution with its own taps: y_t = bias + sum over j of weight[:, K - 1 - j] x_(t-j).

    What would lie before the row is 0. Float, y_NE. Only numba has a kernel; the others take plain PyTorch.

    Raises:
        ConfigError: as ``s5_scan``.
    """
    num_values, num_channels = _size(x_NE, "x_NE", 2), x_NE.shape[-1]
    _expect("x_NE", x_NE, (num_values, num_channels), (torch.float32, torch.float64))
    _expect(
        "weight_EK",
        weight_EK,
        (num_channels, _size(weight_EK, "weight_EK", 2) and weight_EK.shape[-1]),
        (x_NE.dtype,),
    )
    _expect("bias_E", bias_E, (num_channels,), (x_NE.dtype,))
    _expect_offsets(offsets_B, x_NE)
    has_kernel = backend == "numba" or (backend == "auto" and not x_NE.is_cuda)
    if has_kernel and (module := _kernels(backend, x_NE)):
        y_NE: Tensor = module.causal_conv1d(x_NE, weight_EK, bias_E, offsets_B)
        return y_NE
    position_N = torch.arange(num_values, device=x_NE.device)
    row_N = torch.searchsorted(offsets_B, position_N, right=True) - 1
    position_N -= offsets_B[row_N]
    y_NE = bias_E + weight_EK[:, -1] * x_NE
    for j in range(1, min(weight_EK.shape[1], num_values)):
        before_NE = x_NE[:-j] * (position_N[j:] >= j).unsqueeze(1)
        y_NE = y_NE + torch.nn.functional.pad(weight_EK[:, -1 - j] * before_NE, (0, 0, j, 0))
    return y_NE


def _recurrence(multipliers_ND: Tensor, values_ND: Tensor, longest: int) -> Tensor:
    """x_k = multipliers_k x_(k-1) + values_k in log2(longest) steps; a multiplier of 0 starts a new row."""
    reach = 1
    while reach < longest:
        values_ND = torch.cat(
            [values_ND[:reach], values_ND[reach:] + multipliers_ND[reach:] * values_ND[:-reach]]
        )
        multipliers_ND = torch.cat([multipliers_ND[:reach], multipliers_ND[reach:] * multipliers_ND[:-reach]])
        reach *= 2
    return values_ND


def _reversed_recurrence(multipliers_ND: Tensor, values_ND: Tensor, longest: int) -> Tensor:
    """g_k = values_k + conj(multipliers_(k+1)) g_(k+1): the gradient of ``_recurrence`` by its values."""
    after_ND = torch.cat([multipliers_ND[1:], torch.zeros_like(multipliers_ND[:1])]).conj()
    return _recurrence(after_ND.flip(0), values_ND.flip(0), longest).flip(0)


def _starts(offsets_B: Tensor) -> tuple[Tensor, int]:
    """(positions that rows start at, length of the longest row)."""
    lengths_B = offsets_B.diff()
    starts_B = offsets_B[:-1][lengths_B > 0]
    return starts_B, int(lengths_B.max()) if len(lengths_B) else 0


def _before(states_ND: Tensor, starts_B: Tensor) -> Tensor:
    """The state before each value, 0 where a row starts."""
    return torch.cat([torch.zeros_like(states_ND[:1]), states_ND[:-1]]).index_fill(0, starts_B, 0)


def _zero_order_hold(poles_P: Tensor, durations_NP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(e^(L D), h = (e^(L D) - 1) / L, dh/dL), each [N, P]."""
    z_NP = poles_P * durations_NP
    growth_NP = z_NP.exp()
    small_NP = z_NP.abs() < 0.5
    safe_P = torch.where(poles_P == 0, 1, poles_P)
    terms = 9 if z_NP.dtype == torch.complex64 else 17
    hold_NP, slope_NP = torch.zeros_like(z_NP), torch.zeros_like(z_NP)
    for k in range(terms, -1, -1):  # (e^z - 1) / z = sum z^k / (k + 1)!, and its derivative
        hold_NP = hold_NP * z_NP + 1 / math.factorial(k + 1)
        slope_NP = slope_NP * z_NP + (k + 1) / math.factorial(k + 2)
    hold_NP = torch.where(small_NP, durations_NP * hold_NP, (growth_NP - 1) / safe_P)
    return (
        growth_NP,
        hold_NP,
        torch.where(
            small_NP, durations_NP.square() * slope_NP, (durations_NP * growth_NP - hold_NP) / safe_P
        ),
    )


class _S5Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, *tensors: Tensor) -> Tensor:
        inputs_NP, intervals_N, poles_P, rates_P, offsets_B = tensors
        starts_B, longest = _starts(offsets_B)
        growth_NP, hold_NP, _ = _zero_order_hold(poles_P, intervals_N.unsqueeze(1) * rates_P)
        states_NP = _recurrence(growth_NP.index_fill(0, starts_B, 0), hold_NP * inputs_NP, longest)
        ctx.save_for_backward(*tensors, states_NP)
        return states_NP

    @staticmethod
    @once_differentiable
    def backward(ctx: AutogradContext, grad_NP: Tensor) -> tuple[Tensor | None, ...]:
        inputs_NP, intervals_N, poles_P, rates_P, offsets_B, states_NP = ctx.saved_tensors
        starts_B, longest = _starts(offsets_B)
        durations_NP = intervals_N.unsqueeze(1) * rates_P
        growth_NP, hold_NP, slope_NP = _zero_order_hold(poles_P, durations_NP)
        grad_NP = _reversed_recurrence(growth_NP.index_fill(0, starts_B, 0), grad_NP, longest)
        by_growth_NP = (growth_NP * _before(states_NP, starts_B)).conj() * grad_NP
        by_hold_NP = inputs_NP.conj() * grad_NP
        d_durations_NP = (poles_P.conj() * by_growth_NP + growth_NP.conj() * by_hold_NP).real
        d_poles_P = (durations_NP * by_growth_NP + slope_NP.conj() * by_hold_NP).sum(0)
        d_intervals_N, d_rates_P = d_durations_NP @ rates_P, intervals_N @ d_durations_NP
        return hold_NP.conj() * grad_NP, d_intervals_N, d_poles_P, d_rates_P, None


class _SelectiveScan(torch.autograd.Function):
    """A chunk of channels at a time, so that memory does not grow with their number."""

    @staticmethod
    def forward(ctx: AutogradContext, *tensors: Tensor) -> Tensor:
        u_NE, delta_NE, A_ES, B_NS, C_NS, D_E, offsets_B = tensors
        ctx.save_for_backward(*tensors)
        starts_B, longest = _starts(offsets_B)
        y_NE = D_E * u_NE
        for e in _chunks(u_NE, B_NS):
            _, states_NES = _states(u_NE[:, e], delta_NE[:, e], A_ES[e], B_NS, starts_B, longest)
            y_NE[:, e] += (states_NES @ C_NS.unsqueeze(2)).squeeze(2)
        return y_NE

    @staticmethod
    @once_differentiable
    def backward(ctx: AutogradContext, grad_NE: Tensor) -> tuple[Tensor | None, ...]:
        u_NE, delta_NE, A_ES, B_NS, C_NS, D_E, offsets_B = ctx.saved_tensors
        starts_B, longest = _starts(offsets_B)
        d_u_NE, d_delta_NE = grad_NE * D_E, torch.empty_like(u_NE)
        d_A_ES, d_B_NS, d_C_NS = torch.empty_like(A_ES), torch.zeros_like(B_NS), torch.zeros_like(C_NS)
        for e in _chunks(u_NE, B_NS):
            decay_NES, states_NES = _states(u_NE[:, e], delta_NE[:, e], A_ES[e], B_NS, starts_B, longest)
            grad_NES = grad_NE[:, e].unsqueeze(2) * C_NS.unsqueeze(1)
            grad_NES = _reversed_recurrence(decay_NES, grad_NES, longest)
            d_C_NS += (grad_NE[:, None, e] @ states_NES).squeeze(1)
            d_B_NS += ((delta_NE[:, e] * u_NE[:, e]).unsqueeze(1) @ grad_NES).squeeze(1)
            d_scaled_NE = (grad_NES @ B_NS.unsqueeze(2)).squeeze(2)
            by_decay_NES = grad_NES * decay_NES * _before(states_NES, starts_B)
            d_u_NE[:, e] += d_scaled_NE * delta_NE[:, e]
            d_delta_NE[:, e] = d_scaled_NE * u_NE[:, e] + (by_decay_NES * A_ES[e]).sum(2)
            d_A_ES[e] = (by_decay_NES * delta_NE[:, e].unsqueeze(2)).sum(0)
        return d_u_NE, d_delta_NE, d_A_ES, d_B_NS, d_C_NS, (grad_NE * u_NE).sum(0), None


def _chunks(u_NE: Tensor, B_NS: Tensor) -> list[slice]:
    width = max(1, CHUNK_SIZE // max(1, B_NS.numel()))
    return [slice(e, e + width) for e in range(0, u_NE.shape[1], width)]


def _states(
    u_NE: Tensor, delta_NE: Tensor, A_ES: Tensor, B_NS: Tensor, starts_B: Tensor, longest: int
) -> tuple[Tensor, Tensor]:
    """(decay, 0 where a row starts, states), each [N, E, S]."""
    decay_NES = (delta_NE.unsqueeze(2) * A_ES).exp().index_fill(0, starts_B, 0)
    return decay_NES, _recurrence(decay_NES, (delta_NE * u_NE).unsqueeze(2) * B_NS.unsqueeze(1), longest)


def _mamba_ssm(
    u_NE: Tensor, delta_NE: Tensor, A_ES: Tensor, B_NS: Tensor, C_NS: Tensor, D_E: Tensor, offsets_B: Tensor
) -> Tensor:
    """Rows are padded; what is appended to a row changes nothing before it."""
    module = _module("mamba_ssm", "mamba_ssm.ops.selective_scan_interface")
    longest = int(offsets_B.diff().max()) if len(u_NE) else 0
    if not longest:
        return u_NE * D_E
    u, delta, B, C = (
        jagged.to_padded(values, offsets_B, longest).transpose(1, 2).contiguous()
        for values in (u_NE, delta_NE, B_NS, C_NS)
    )
    y_BET: Tensor = module.selective_scan_fn(u, delta, A_ES, B, C, D_E)
    return jagged.from_padded(y_BET.transpose(1, 2).contiguous(), offsets_B)


def _has_mamba_ssm(values: Tensor) -> bool:
    return values.is_cuda and values.dtype == torch.float32 and _installed("mamba_ssm", "mamba_ssm")


def _kernels(backend: Backend, values: Tensor) -> ModuleType | None:
    """The module of the kernels to use; None: plain PyTorch."""
    real = values.real.dtype
    if backend == "auto":
        name = "triton" if values.is_cuda else "numba"
        fits = real == torch.float32 and values.device.type in ("cpu", "cuda")
        return _module(name) if fits and _installed(name, f"recray.ops.scans_{name}") else None
    if backend == "torch":
        return None
    if backend not in ("numba", "triton"):
        raise ConfigError(
            f"backend {backend!r} has no kernel for this scan: take auto, torch, numba or triton"
        )
    if real != torch.float32:
        raise ConfigError(f"backend {backend!r} takes float32, not {real}: convert, or take backend='torch'")
    module = _module(backend)
    if backend == "triton" and not (values.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        raise ConfigError(f"backend 'triton' runs on CUDA, the values are on {values.device}: take 'numba'")
    if backend == "numba" and values.device.type != "cpu":
        raise ConfigError(f"backend 'numba' runs on a CPU, the values are on {values.device}: take 'triton'")
    return module


@functools.cache
def _installed(package: str, module: str) -> bool:
    """Decided and announced once."""
    try:
        _module(package, module)
    except ConfigError as error:
        log.warning("scans run without it, which is slower: %s", error)
        return False
    return True


@functools.cache
def _module(package: str, module: str = "") -> ModuleType:
    try:
        return importlib.import_module(module or f"recray.ops.scans_{package}")
    except ImportError as error:
        raise ConfigError(f"{package} is not installed ({error}): {INSTALL[package]}") from error


def _size(values: Tensor, name: str, dims: int) -> int:
    if values.dim() != dims:
        raise ConfigError(f"{name} has shape {list(values.shape)}: give it {dims} dimensions")
    return len(values)


def _expect(name: str, values: Tensor, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
    if values.shape != shape:
        raise ConfigError(f"{name} has shape {list(values.shape)}, the others ask for {list(shape)}")
    if values.dtype not in dtypes:
        raise ConfigError(f"{name} is {values.dtype}: give it as {' or '.join(map(str, dtypes))}")


def _expect_offsets(offsets_B: Tensor, values: Tensor) -> None:
    """Their values are looked at on a CPU only: a look would make every call wait for a device."""
    if offsets_B.dtype != torch.int64 or offsets_B.dim() != 1 or not len(offsets_B):
        raise ConfigError(
            f"offsets are {offsets_B.dtype}, shape {list(offsets_B.shape)}: int64, B + 1 entries"
        )
    if offsets_B.device.type != "cpu":
        return
    if offsets_B[0] != 0 or offsets_B[-1] != len(values) or (offsets_B.diff() < 0).any():
        raise ConfigError(
            f"offsets {offsets_B.tolist()[:8]}... do not run from 0 up to the {len(values)} values"
        )
