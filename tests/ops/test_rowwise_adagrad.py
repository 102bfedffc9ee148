"""Row-wise Adagrad on bags against autograd's dense gradient and the formula."""

import pytest
import torch

from recray.ops import rowwise_adagrad
from recray.ops.rowwise_adagrad import Bags, rowwise_adagrad_, sum_bags


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cached_rows", [1, 4, 100])
def test_update_is_the_formula(
    blocks: int, weighted: bool, cached_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowwise_adagrad, "CACHED_ROWS", cached_rows)
    torch.manual_seed(1)
    lengths = torch.tensor([3, 0, 1, 8, 2, 0], dtype=torch.int32)
    rows = torch.randint(0, 12, (14,), dtype=torch.int32)
    assert 4 < len(rows.unique()) < 14
    bags = Bags(lengths, rows, torch.rand(14) if weighted else None)
    weight, sums, grad = torch.randn(12, 6), torch.rand(12, blocks), torch.randn(6, 6)
    dense = weight.clone().requires_grad_()
    weights_N = torch.ones(14) if bags.weights_N is None else bags.weights_N
    summed = torch.stack(
        [
            (dense[i.long()] * w.unsqueeze(1)).sum(0)
            for i, w in zip(
                rows.split(lengths.tolist()),
                weights_N.split(lengths.tolist()),
                strict=True,
            )
        ]
    )
    torch.testing.assert_close(sum_bags(weight, bags), summed.detach())
    (summed * grad * 0.5).sum().backward()
    assert dense.grad is not None
    per_block = dense.grad.view(12, blocks, -1)
    expected_sums = sums + per_block.square().mean(2)
    rates = 0.1 / (expected_sums.sqrt() + 1e-3)
    expected = weight - (rates.unsqueeze(2) * per_block).view(12, 6)
    rowwise_adagrad_(weight, sums, bags, grad, lr=0.1, eps=1e-3, scale=0.5)
    torch.testing.assert_close(sums, expected_sums)
    torch.testing.assert_close(weight, expected)


def test_no_ids_change_nothing() -> None:
    weight, sums = torch.randn(3, 2), torch.rand(3, 1)
    before = weight.clone(), sums.clone()
    bags = Bags(torch.zeros(4, dtype=torch.int32), torch.zeros(0, dtype=torch.int32))
    assert not sum_bags(weight, bags).any()
    rowwise_adagrad_(weight, sums, bags, torch.randn(4, 2), lr=1.0, eps=0.0)
    assert torch.equal(weight, before[0])
    assert torch.equal(sums, before[1])
