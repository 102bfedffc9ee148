"""The scans on a CUDA device: the loop's results and gradients, and angles that need more than float32."""

import pytest
import torch

from recray.ops import scans
from recray.ops.scans import Backend
from tests.ops.scan_cases import LENGTHS, SCANS, assert_equal, expected, offsets, outcome

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_equal_to_a_loop_over_single_steps(scan: str, lengths: str, backend: Backend) -> None:
    if backend == "triton":
        pytest.importorskip("triton")
    assert_equal(outcome(scan, lengths, backend, "cuda"), expected(scan, lengths))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_mamba_ssm_equals_the_loop(lengths: str) -> None:
    pytest.importorskip("mamba_ssm")
    assert_equal(outcome("selective_scan", lengths, "mamba_ssm", "cuda"), expected("selective_scan", lengths))


def test_ten_years_of_turns() -> None:
    pytest.importorskip("triton")
    given = (
        torch.ones(4, 1, dtype=torch.complex64),
        torch.tensor([0.0, 1.0, 86400.0, 3.2e8]),
        torch.tensor([-1e-9 + 3j]).to(torch.complex64),
        torch.ones(1),
        offsets([4]),
    )
    found = scans.s5_scan(*(values.cuda() for values in given), backend="triton").cpu()
    torch.testing.assert_close(found, scans.s5_scan(*given, backend="torch"), rtol=1e-4, atol=1e-4)
