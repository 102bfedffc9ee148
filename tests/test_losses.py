"""Losses against slow loops written straight from the papers' equations."""

import math

import pytest
import torch

from recray.losses import batch_items, bce, bpr, sampled_softmax


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


def slow_sampled_softmax(
    scores_BI: torch.Tensor, items: list[int], logq: list[float], weights: list[float]
) -> float:
    """Over rows, as in the paper; scores_BI scores each row's user against the whole catalogue."""
    total = 0.0
    for b in range(len(items)):
        denominator = 0.0
        for c in range(len(items)):
            if c != b and items[c] == items[b]:
                continue  # the same item is not its own negative
            denominator += math.exp(scores_BI[b][items[c]].item() - logq[c])
        total -= weights[b] * math.log(math.exp(scores_BI[b][items[b]].item() - logq[b]) / denominator)
    return total / sum(weights)


def fast_sampled_softmax(
    scores_BI: torch.Tensor, items: list[int], logq: list[float], weights: list[float] | None = None
) -> torch.Tensor:
    distinct = batch_items(torch.tensor(items), torch.tensor(logq))
    weight_B = None if weights is None else torch.tensor(weights)
    return sampled_softmax(scores_BI[:, distinct.item_ids_J], distinct, weight_B)


ITEMS, LOGQ = [3, 1, 1, 0, 1], [math.log(q) for q in (0.1, 0.3, 0.3, 0.5, 0.3)]  # one item three times


def test_sampled_softmax_matches_the_slow_loop() -> None:
    scores_BI = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slow = slow_sampled_softmax(scores_BI, ITEMS, LOGQ, [1.0] * 5)
    assert fast_sampled_softmax(scores_BI, ITEMS, LOGQ).item() == pytest.approx(slow, rel=1e-6)
    weights = [0.5, 2.0, 0.0, 1.0, 3.0]
    slow = slow_sampled_softmax(scores_BI, ITEMS, LOGQ, weights)
    assert fast_sampled_softmax(scores_BI, ITEMS, LOGQ, weights).item() == pytest.approx(slow, rel=1e-6)


def test_twins_get_no_gradient_and_loss_stays_finite() -> None:
    scores_BI = torch.zeros(3, 8, requires_grad=True)
    loss = fast_sampled_softmax(scores_BI, [7, 7, 7], [0.0] * 3)
    loss.backward()
    assert loss.item() == 0.0  # every other row is the same item: nothing to tell apart
    assert scores_BI.grad is not None
    assert torch.equal(scores_BI.grad, torch.zeros(3, 8))


def test_constant_logq_changes_nothing_and_popular_negatives_weigh_less() -> None:
    scores_BI = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    items = [0, 1, 2, 3]
    plain = fast_sampled_softmax(scores_BI, items, [0.0] * 4).item()
    assert fast_sampled_softmax(scores_BI, items, [-2.3] * 4).item() == pytest.approx(plain)
    scores_BI.requires_grad_()
    push = {}
    for logq in (-0.1, -5.0):
        loss = fast_sampled_softmax(scores_BI, items, [logq, -2.0, -2.0, -2.0])
        push[logq] = torch.autograd.grad(loss, scores_BI)[0][1:, 0].sum().item()
    assert 0 < push[-0.1] < push[-5.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_keep_the_dtype(dtype: torch.dtype) -> None:
    x = torch.tensor([0.1, 0.9], dtype=dtype)
    assert bce(x, torch.ones(2, dtype=dtype)).dtype == dtype
    assert bpr(x, x).dtype == dtype
    assert fast_sampled_softmax(x.expand(2, 2), [0, 1], [0.0, 0.0]).dtype == dtype
