"""Every backend of the scans against a loop over single steps, s5-pytorch, and rows scanned alone."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from recray.config import ConfigError
from recray.ops import scans
from recray.ops.scans import Backend
from tests.ops.scan_cases import (
    INTERPRETED,
    LENGTHS,
    SCANS,
    arguments,
    assert_equal,
    expected,
    gradients,
    offsets,
    outcome,
    single,
    sized_arguments,
)

REPO = Path(__file__).parents[2]
TEN_YEARS_S = 10 * 365.25 * 86400
CPU_BACKENDS = pytest.mark.parametrize("backend", ["torch", "numba"])
ALL_SCANS = pytest.mark.parametrize("scan", SCANS)
ALL_LENGTHS = pytest.mark.parametrize("lengths", LENGTHS)


@CPU_BACKENDS
@ALL_SCANS
@ALL_LENGTHS
def test_equal_to_a_loop_over_single_steps(scan: str, lengths: str, backend: Backend) -> None:
    assert_equal(outcome(scan, lengths, backend), expected(scan, lengths))


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What the Triton kernels make of every case, from a process that interprets them."""
    pytest.importorskip("triton")
    file = tmp_path_factory.mktemp("scans") / "triton.safetensors"
    command = [sys.executable, "-m", "tests.ops.scan_cases", str(file)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, cwd=REPO, env=environment, check=True, timeout=300)
    return safetensors.torch.load_file(file)


@pytest.mark.parametrize(("scan", "lengths"), INTERPRETED)
def test_kernels_equal_the_loop(scan: str, lengths: str, interpreted: dict[str, Tensor]) -> None:
    wanted = expected(scan, lengths)
    assert_equal({what: interpreted[f"{scan}, {lengths}: {what}"] for what in wanted}, wanted)


@ALL_SCANS
def test_gradients_of_the_plain_form_by_finite_differences(scan: str) -> None:
    tensors = [values.requires_grad_() for values in sized_arguments(scan, 6, 3, 2, 3)]
    offsets_B = offsets([4, 0, 2])
    assert torch.autograd.gradcheck(lambda *given: SCANS[scan](*given, offsets_B, backend="torch"), tensors)


@CPU_BACKENDS
@ALL_SCANS
def test_a_row_is_not_touched_by_its_neighbours(scan: str, backend: Backend) -> None:
    tensors = [single(values) for values in arguments(scan, "mixed")]
    per_value = [len(values) == sum(LENGTHS["mixed"]) for values in tensors]
    together = SCANS[scan](*tensors, offsets(LENGTHS["mixed"]), backend=backend)
    begin = 0
    for length in LENGTHS["mixed"]:
        rows = slice(begin, begin + length)
        alone = [v[rows] if is_row else v for v, is_row in zip(tensors, per_value, strict=True)]
        found = SCANS[scan](*alone, offsets([length]), backend=backend)
        torch.testing.assert_close(found, together[rows], rtol=1e-6, atol=1e-6)
        begin += length


@CPU_BACKENDS
def test_s5_equals_s5_pytorch(backend: Backend) -> None:
    """Its ``forward`` with one step size per event, its matrices B and C beside our scan."""
    s5 = pytest.importorskip("s5")
    torch.manual_seed(0)
    layer = s5.S5(width=6, state_width=8).seq
    signal_TH, intervals_T = torch.randn(50, 6), torch.rand(50) * 20
    wanted_TH = layer(signal_TH, step_scale=intervals_T)
    wanted_TH.square().sum().backward()
    B_PH, C_HP = layer.get_BC_tilde()
    leaves = [layer.Lambda, layer.log_step]
    wanted = [leaf.grad.clone() for leaf in leaves]
    layer.zero_grad()
    inputs_TP = signal_TH.to(B_PH.dtype) @ B_PH.T
    states_TP = scans.s5_scan(
        inputs_TP, intervals_T, layer.Lambda, layer.log_step.exp(), offsets([50]), backend=backend
    )
    found_TH = (states_TP @ C_HP.T).real + layer.D * signal_TH
    torch.testing.assert_close(found_TH, wanted_TH, rtol=1e-4, atol=1e-5)
    found_TH.square().sum().backward()
    for leaf, gradient in zip(leaves, wanted, strict=True):
        torch.testing.assert_close(leaf.grad, gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


@CPU_BACKENDS
@pytest.mark.parametrize("pole", [0, -1e-30, -1e-8, -0.5 + 3j, -20 + 1000j, 5j])
def test_steps_from_none_to_ten_years(pole: complex, backend: Backend) -> None:
    steps = [0, 1e-30, 1e-6, 1e-3, 0.4, 0.6, 1, 60, 86400, TEN_YEARS_S, 0, TEN_YEARS_S]
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(len(steps), 1, dtype=torch.complex64, generator=generator),
        torch.tensor(steps),
        torch.tensor([pole], dtype=torch.complex64),
        torch.tensor([1.0]),
    ]
    u, wait, poles, scale = leaves = [leaf.requires_grad_() for leaf in leaves]
    result = scans.s5_scan(u, wait, poles, scale, offsets([len(steps)]), backend=backend)
    for what, values in gradients(result, leaves).items():
        assert torch.isfinite(torch.view_as_real(values) if values.is_complex() else values).all(), what


@CPU_BACKENDS
def test_the_hold_is_the_step_where_nothing_decays_and_the_inverse_pole_where_all_does(
    backend: Backend,
) -> None:
    ones = torch.ones(3, 1, dtype=torch.complex64)
    tiny = torch.tensor([1e-12, 3e-9, 2e-7])
    for pole in (0, -1e-5 + 1e-5j):
        poles_P = torch.tensor([pole], dtype=torch.complex64)
        found = scans.s5_scan(ones, tiny, poles_P, torch.ones(1), offsets([1, 1, 1]), backend=backend)
        torch.testing.assert_close(found[:, 0].real, tiny, rtol=1e-6, atol=0)
    poles_P = torch.tensor([-0.5 + 2j], dtype=torch.complex64)
    found = scans.s5_scan(ones, tiny + TEN_YEARS_S, poles_P, torch.ones(1), offsets([3]), backend=backend)
    torch.testing.assert_close(found, (-1 / poles_P).expand(3, 1))


@CPU_BACKENDS
def test_selective_scan_of_extreme_steps(backend: Backend) -> None:
    u_NE, _, A_ES, B_NS, C_NS, D_E = (single(values) for values in arguments("selective_scan", "mixed"))
    delta_NE = torch.tensor([0.0, 1e-30, 1e-3, 1e3, TEN_YEARS_S]).repeat(5)[: len(u_NE)]
    leaves = [u_NE, delta_NE[:, None].expand_as(u_NE).clone(), A_ES, B_NS, C_NS, D_E]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    u_NE, delta_NE, A_ES, B_NS, C_NS, D_E = leaves
    cuts = offsets(LENGTHS["mixed"])
    result = scans.selective_scan(u_NE, delta_NE, A_ES, B_NS, C_NS, D_E, cuts, backend=backend)
    for what, values in gradients(result, leaves).items():
        assert torch.isfinite(values).all(), what


@CPU_BACKENDS
@ALL_SCANS
def test_what_is_not_a_number_comes_out_as_none(scan: str, backend: Backend) -> None:
    for i in range(len(arguments(scan, "one value"))):
        tensors = [single(values) for values in arguments(scan, "one value")]
        tensors[i].fill_(float("nan"))
        result = SCANS[scan](*tensors, offsets([1]), backend=backend)
        is_decay = scan == "selective_scan" and i == 2  # meets no state before the first value
        assert is_decay or torch.isnan(torch.view_as_real(result) if result.is_complex() else result).any(), i


@ALL_SCANS
def test_threads_do_not_change_a_bit(scan: str) -> None:
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(outcome(scan, "mixed", "numba"))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(other[what].equal(values) for what, values in found[0].items())


@ALL_SCANS
def test_auto_takes_numba_for_float32_and_the_plain_form_for_float64(scan: str) -> None:
    compiled, automatic = outcome(scan, "mixed", "numba"), outcome(scan, "mixed", "auto")
    assert all(automatic[what].equal(values) for what, values in compiled.items())
    result = SCANS[scan](*arguments(scan, "mixed"), offsets(LENGTHS["mixed"]))
    assert result.real.dtype == torch.float64


@pytest.mark.parametrize("name", ["numba", "triton", "mamba_ssm"])
def test_a_backend_asked_for_by_name_and_missing_is_an_error_that_says_so(
    name: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str) -> None:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    scans._module.cache_clear()
    u_NE, delta_NE, A_ES, B_NS, C_NS, D_E = (single(v) for v in arguments("selective_scan", "mixed"))
    cuts = offsets(LENGTHS["mixed"])
    with pytest.raises(ConfigError, match=rf"{name} is not installed .*: pip install"):
        scans.selective_scan(u_NE, delta_NE, A_ES, B_NS, C_NS, D_E, cuts, backend=name)


@ALL_SCANS
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor([0, 3, 2, 6]), "do not run from 0 up to the 6 values"),
        (torch.tensor([0, 5]), "do not run from 0 up to the 6 values"),
        (torch.tensor([0.0, 6.0]), "int64"),
        (torch.tensor([[0, 6]]), "int64"),
    ],
)
def test_offsets_that_are_none(scan: str, wrong: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SCANS[scan](*map(single, sized_arguments(scan, 6, 3, 2, 3)), wrong)


@ALL_SCANS
def test_shapes_and_dtypes_that_do_not_fit(scan: str) -> None:
    good = [single(values) for values in sized_arguments(scan, 6, 3, 2, 3)]
    for i in range(1, len(good)):
        with pytest.raises(ConfigError, match="has shape"):
            SCANS[scan](*good[:i], good[i][1:], *good[i + 1 :], offsets([6]))
        with pytest.raises(ConfigError, match="give it as torch"):
            SCANS[scan](*good[:i], good[i].to(torch.complex128), *good[i + 1 :], offsets([6]))
    with pytest.raises(ConfigError, match="give it 2 dimensions"):
        SCANS[scan](good[0][0], *good[1:], offsets([6]))
    with pytest.raises(ConfigError, match="takes float32"):
        SCANS[scan](*sized_arguments(scan, 6, 3, 2, 3), offsets([6]), backend="numba")


@pytest.mark.parametrize("backend", ["triton", "mamba_ssm"])
def test_backends_without_a_convolution_take_plain_pytorch(backend: scans.Backend) -> None:
    x_NE, weight_EK = torch.randn(9, 4), torch.randn(4, 3)
    offsets_B = torch.tensor([0, 5, 5, 9])
    found = scans.causal_conv1d(x_NE, weight_EK, torch.zeros(4), offsets_B, backend=backend)
    expected = scans.causal_conv1d(x_NE, weight_EK, torch.zeros(4), offsets_B, backend="torch")
    assert torch.equal(found, expected)
