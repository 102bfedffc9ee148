"""The Triton kernels on a CUDA device: results and gradients of the PyTorch twins, chosen by themselves."""

import logging

import pytest
import torch

from recray.ops import jagged
from tests.ops.jagged_cases import CASES, Case, outcome

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("backend", ["auto", "triton"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_to_the_twins_on_the_cpu(case: Case, backend: jagged.Backend) -> None:
    pytest.importorskip("triton")
    found = outcome(case, backend, "cuda")
    for what, expected in outcome(case, "torch").items():
        torch.testing.assert_close(found[what], expected)


def test_the_choice_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("triton")
    jagged._triton_on_cuda.cache_clear()
    values_ND, offsets_B = torch.ones(2, 3, device="cuda"), torch.tensor([0, 2], device="cuda")
    with caplog.at_level(logging.INFO, "recray.ops.jagged"):
        for _ in range(2):
            jagged.mean(values_ND, offsets_B)
    assert caplog.messages == ["jagged operations on CUDA use the Triton kernels"]
