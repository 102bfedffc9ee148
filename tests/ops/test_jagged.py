"""The PyTorch twins against slow loops, the Triton kernels (interpreted) against the twins."""

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
from recray.ops import jagged
from tests.ops.jagged_cases import CASES, LENGTHS, Case, offsets, outcome, values

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What the kernels make of every case, from a process that interprets them."""
    pytest.importorskip("triton")
    file = tmp_path_factory.mktemp("jagged") / "triton.safetensors"
    command = [sys.executable, "-m", "tests.ops.jagged_cases", str(file)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, cwd=REPO, env=environment, check=True, timeout=300)
    return safetensors.torch.load_file(file)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_equal_their_twins(case: Case, interpreted: dict[str, Tensor]) -> None:
    for what, expected in outcome(case, "torch").items():
        torch.testing.assert_close(interpreted[f"{case}: {what}"], expected)


def rows(values_N: Tensor, lengths: list[int]) -> list[Tensor]:
    return list(values_N.split(lengths)) if lengths else []


ALL_LENGTHS = pytest.mark.parametrize("lengths", LENGTHS)


@ALL_LENGTHS
def test_padding_row_by_row(lengths: str) -> None:
    sizes, max_length = LENGTHS[lengths], 35
    values_ND = values(Case("to_padded", lengths, (3,)))
    padded = jagged.to_padded(values_ND, offsets(sizes), max_length, -1.0)
    assert padded.shape == (len(sizes), max_length, 3)
    for found, row in zip(padded, rows(values_ND, sizes), strict=True):
        kept = min(len(row), max_length)
        assert found[:kept].equal(row[:kept])
        assert (found[kept:] == -1.0).all()


@ALL_LENGTHS
def test_unpadding_is_the_inverse_and_so_is_its_gradient(lengths: str) -> None:
    sizes = LENGTHS[lengths]
    longest = max(sizes, default=0) + 1
    values_ND = values(Case("to_padded", lengths, (3,)))
    padded = jagged.to_padded(values_ND, offsets(sizes), longest).requires_grad_()
    back = jagged.from_padded(padded, offsets(sizes))
    assert back.equal(values_ND)
    back.sum().backward()
    ones = jagged.to_padded(torch.ones_like(values_ND), offsets(sizes), longest)
    assert padded.grad is not None
    assert padded.grad.equal(ones)


def test_a_padded_form_that_is_too_short_cannot_be_unpadded() -> None:
    with pytest.raises(AssertionError, match="a row has 3 values, its padded form 2"):
        jagged.from_padded(torch.zeros(1, 2, 4), torch.tensor([0, 3]))


def slow_softmax(values_N: Tensor, lengths: list[int]) -> Tensor:
    return torch.cat([row.softmax(0) for row in rows(values_N, lengths)] or [values_N])


def slow_mean(values_N: Tensor, lengths: list[int]) -> Tensor:
    means = [row.sum(0) / max(len(row), 1) for row in rows(values_N, lengths)]
    return torch.stack(means) if means else values_N


SLOW = {"softmax": slow_softmax, "mean": slow_mean}


@ALL_LENGTHS
@pytest.mark.parametrize("operation", SLOW)
@pytest.mark.parametrize("tail", [(), (3,)])
def test_softmax_and_mean_row_by_row(operation: str, lengths: str, tail: tuple[int, ...]) -> None:
    case = Case(operation, lengths, tail)
    leaf = values(case).requires_grad_()
    expected = SLOW[operation](leaf, LENGTHS[lengths])
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(7))
    (expected * weights).sum().backward()
    found = outcome(case, "torch")
    torch.testing.assert_close(found["result"], expected.detach())
    torch.testing.assert_close(found["gradient"], leaf.grad)


def test_softmax_of_large_scores_is_finite() -> None:
    scores_N = torch.tensor([1e4, 1e4, -1e4])
    assert jagged.softmax(scores_N, torch.tensor([0, 3])).tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("positions", [True, False])
def test_a_query_sees_the_keys_of_its_row_up_to_its_position(positions: bool) -> None:
    query_lengths, key_lengths = [2, 0, 3, 1], [4, 2, 0, 1]
    generator = torch.Generator().manual_seed(0)
    query_at = torch.randint(0, 5, (sum(query_lengths),), generator=generator)
    key_at = torch.randint(0, 5, (sum(key_lengths),), generator=generator)
    query_given, key_given = (query_at, key_at) if positions else (None, None)
    cuts = offsets(query_lengths), offsets(key_lengths)
    mask = jagged.attention_mask(*cuts, query_given, key_given, 4, 5)
    queries, keys = rows(query_at, query_lengths), rows(key_at, key_lengths)
    for b in range(4):
        for t in range(4):
            for s in range(5):
                exist = t < len(queries[b]) and s < len(keys[b])
                expected = exist and (not positions or bool(keys[b][s] <= queries[b][t]))
                assert mask[b, t, s] == expected


def test_triton_asked_for_by_name_and_missing_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    jagged._triton.cache_clear()
    with pytest.raises(ConfigError, match=r"triton is not installed .*: pip install 'recray\[gpu\]'"):
        jagged.mean(torch.zeros(1, 1), torch.tensor([0, 1]), backend="triton")
