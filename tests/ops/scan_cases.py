"""Inputs of the scans, a step-by-step loop for each, and what a backend makes of them.

``python -m tests.ops.scan_cases FILE`` writes what the Triton kernels make of every case; with
TRITON_INTERPRET=1, which triton reads when it is imported, without a GPU.
"""

import sys
from collections.abc import Callable

import safetensors.torch
import torch
from torch import Tensor

from recray.ops import scans
from recray.ops.scans import Backend

LENGTHS = {
    "mixed": [3, 0, 1, 18, 2],
    "longer than a chunk": [33],
    "one value": [1],
    "all empty": [0, 0],
    "no rows": [],
    "empty ends": [0, 5, 0],
}
POLES, CHANNELS, STATES, TAPS = 35, 6, 9, 4  # none of them fills a block

SCANS: dict[str, Callable[..., Tensor]] = {
    "s5_scan": scans.s5_scan,
    "selective_scan": scans.selective_scan,
    "causal_conv1d": scans.causal_conv1d,
}
# The interpreter is slow; only the selective scan works in chunks.
INTERPRETED = [
    *(("selective_scan", lengths) for lengths in LENGTHS),
    *(("s5_scan", lengths) for lengths in LENGTHS if lengths != "longer than a chunk"),
]


def offsets(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def arguments(scan: str, lengths: str) -> list[Tensor]:
    """All but the offsets, in float64."""
    return sized_arguments(scan, sum(LENGTHS[lengths]), POLES, CHANNELS, STATES)


def sized_arguments(scan: str, total: int, poles: int, channels: int, states: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(scan) + total)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if scan == "s5_scan":
        inputs = torch.complex(normal(total, poles), normal(total, poles))
        decaying = torch.complex(-normal(poles).exp(), 3 * normal(poles))
        return [inputs, normal(total).exp(), decaying, (normal(poles) - 2).exp()]
    wide = normal(total, channels)
    if scan == "causal_conv1d":
        return [wide, normal(channels, TAPS), normal(channels)]
    steps = torch.nn.functional.softplus(normal(total, channels))
    varying = normal(total, states), normal(total, states)
    return [wide, steps, -normal(channels, states).exp(), *varying, normal(channels)]


def slow(scan: str, tensors: list[Tensor], lengths: list[int]) -> Tensor:
    """Row by row, value by value, from the equations."""
    if scan == "causal_conv1d":
        return slow_conv(*tensors, lengths=lengths)
    return (slow_s5 if scan == "s5_scan" else slow_selective)(*tensors, lengths=lengths)


def slow_s5(
    inputs_NP: Tensor, intervals_N: Tensor, poles_P: Tensor, rates_P: Tensor, *, lengths: list[int]
) -> Tensor:
    states, k = [inputs_NP[:0]], 0
    for length in lengths:
        state_P = torch.zeros_like(poles_P)
        for _ in range(length):
            growth_P = (poles_P * (intervals_N[k] * rates_P)).exp()
            state_P = growth_P * state_P + (growth_P - 1) / poles_P * inputs_NP[k]
            states.append(state_P[None])
            k += 1
    return torch.cat(states)


def slow_selective(
    u_NE: Tensor,
    delta_NE: Tensor,
    A_ES: Tensor,
    B_NS: Tensor,
    C_NS: Tensor,
    D_E: Tensor,
    *,
    lengths: list[int],
) -> Tensor:
    outputs, t = [u_NE[:0] * D_E], 0
    for length in lengths:
        h_ES = torch.zeros_like(A_ES)
        for _ in range(length):
            h_ES = (delta_NE[t, :, None] * A_ES).exp() * h_ES + (delta_NE[t] * u_NE[t])[:, None] * B_NS[t]
            outputs.append((h_ES @ C_NS[t] + D_E * u_NE[t])[None])
            t += 1
    return torch.cat(outputs)


def slow_conv(x_NE: Tensor, weight_EK: Tensor, bias_E: Tensor, *, lengths: list[int]) -> Tensor:
    outputs = [x_NE[:0]]
    for row_TE in x_NE.split(lengths) if lengths else []:
        for t in range(len(row_TE)):
            taps = range(min(weight_EK.shape[1], t + 1))
            outputs.append((bias_E + sum(weight_EK[:, -1 - j] * row_TE[t - j] for j in taps))[None])
    return torch.cat(outputs)


def gradients(result: Tensor, leaves: list[Tensor]) -> dict[str, Tensor]:
    """The result and the gradients of its sum with seeded weights."""
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(
        result.device
    )
    (result.real + 2 * result.imag if result.is_complex() else result).mul(weights).sum().backward()
    zeros = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return {"result": result.detach().cpu(), **{f"gradient {i}": g.cpu() for i, g in enumerate(zeros)}}


def expected(scan: str, lengths: str) -> dict[str, Tensor]:
    """In float64."""
    leaves = [values.requires_grad_() for values in arguments(scan, lengths)]
    return gradients(slow(scan, leaves, LENGTHS[lengths]), leaves)


def outcome(scan: str, lengths: str, backend: Backend, device: str = "cpu") -> dict[str, Tensor]:
    leaves = [single(values).to(device).requires_grad_() for values in arguments(scan, lengths)]
    return gradients(SCANS[scan](*leaves, offsets(LENGTHS[lengths]).to(device), backend=backend), leaves)


def single(values: Tensor) -> Tensor:
    return values.to(torch.complex64 if values.is_complex() else torch.float32)


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Within 1e-5 of the largest value; what is found is float32."""
    for what, values in wanted.items():
        tolerance = 1e-5 * max(1.0, float(values.abs().max()) if values.numel() else 0.0)
        torch.testing.assert_close(found[what], single(values), rtol=1e-5, atol=tolerance)


if __name__ == "__main__":
    everything = {
        f"{scan}, {lengths}: {what}": tensor.contiguous()
        for scan, lengths in INTERPRETED
        for what, tensor in outcome(scan, lengths, "triton").items()
    }
    safetensors.torch.save_file(everything, sys.argv[1])
