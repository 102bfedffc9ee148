"""Losses against slow loops written straight from the papers' equations."""

import math

import pytest
import torch

from recray.losses import bce, bpr, sampled_softmax


def logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def test_bce_matches_the_slow_loop() -> None:
    logits = [-2.0, 0.3, 1.5, 0.0]
    labels = [0.0, 1.0, 0.25, 1.0]
    for weight in (1.0, 3.0):
        total = 0.0
        for x, y in zip(logits, labels, strict=True):
            total -= weight * y * math.log(logistic(x)) + (1 - y) * math.log(1 - logistic(x))
        loss = bce(torch.tensor(logits), torch.tensor(labels), positive_weight=weight)
        assert loss.item() == pytest.approx(total / len(logits), rel=1e-6)


def test_bpr_matches_the_slow_loop() -> None:
    positives, negatives = [0.5, -1.0], [[0.1, 2.0, -0.7], [-1.0, 0.0, 3.0]]
    terms = [
        -math.log(logistic(positive - negative))
        for positive, row in zip(positives, negatives, strict=True)
        for negative in row
    ]
    loss = bpr(torch.tensor(positives), torch.tensor(negatives))
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-6)
    alone = bpr(torch.tensor(positives), torch.tensor(negatives)[:, 0])
    assert alone.item() == pytest.approx((terms[0] + terms[3]) / 2, rel=1e-6)


def slow_sampled_softmax(logits: torch.Tensor, items: list[int], logq: list[float]) -> float:
    total = 0.0
    for b in range(len(items)):
        denominator = 0.0
        for c in range(len(items)):
            if c != b and items[c] == items[b]:
                continue  # the same item is not its own negative
            denominator += math.exp(logits[b][c].item() - logq[c])
        total -= math.log(math.exp(logits[b][b].item() - logq[b]) / denominator)
    return total / len(items)


def test_sampled_softmax_matches_the_slow_loop() -> None:
    torch.manual_seed(0)
    items, q = [3, 1, 1, 0, 1], [0.1, 0.3, 0.3, 0.5, 0.3]  # one item three times, uneven popularity
    logq = [math.log(p) for p in q]
    logits = torch.randn(5, 5, dtype=torch.float64)
    loss = sampled_softmax(logits, torch.tensor(items), torch.tensor(logq))
    assert loss.item() == pytest.approx(slow_sampled_softmax(logits, items, logq), rel=1e-6)


def test_twins_get_no_gradient_and_loss_stays_finite() -> None:
    logits = torch.zeros(3, 3, requires_grad=True)
    loss = sampled_softmax(logits, torch.tensor([7, 7, 7]), torch.zeros(3))
    loss.backward()
    assert loss.item() == 0.0  # every other row is the same item: nothing to tell apart
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(3, 3))


def test_constant_logq_changes_nothing_and_popular_negatives_weigh_less() -> None:
    torch.manual_seed(1)
    logits, items = torch.randn(4, 4), torch.arange(4)
    plain = sampled_softmax(logits, items, torch.zeros(4))
    assert sampled_softmax(logits, items, torch.full((4,), -2.3)).item() == pytest.approx(plain.item())
    logits.requires_grad_()
    push = {}
    for logq in (-0.1, -5.0):
        (gradient,) = torch.autograd.grad(
            sampled_softmax(logits, items, torch.tensor([logq, -2.0, -2.0, -2.0])), logits
        )
        push[logq] = gradient[1:, 0].sum().item()
    assert 0 < push[-0.1] < push[-5.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_keep_the_dtype(dtype: torch.dtype) -> None:
    x = torch.tensor([0.1, 0.9], dtype=dtype)
    assert bce(x, torch.ones(2, dtype=dtype)).dtype == dtype
    assert bpr(x, x).dtype == dtype
    assert sampled_softmax(x.expand(2, 2), torch.tensor([0, 1]), torch.zeros(2)).dtype == dtype
