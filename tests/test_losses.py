"""Losses against slow loops written straight from the papers' equations."""

import itertools
import math
from typing import TypeVar

import pytest
import torch

from recray.losses import (
    batch_items,
    bce,
    drawn_scores,
    drawn_softmax,
    full_softmax,
    gbce,
    koleo,
    lambdarank,
    sampled_softmax,
    squared_error,
)


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
    one_hot_JI = torch.eye(scores_BI.shape[1], dtype=scores_BI.dtype)[distinct.item_ids_J]
    return sampled_softmax(scores_BI, one_hot_JI, distinct, weight_B)


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
    assert fast_sampled_softmax(x.expand(2, 2), [0, 1], [0.0, 0.0]).dtype == dtype


# Sessions of 5, 1, 0, 4 and 3 rows: one alone, one empty, one without a relevant row.
T = TypeVar("T")
SESSIONS = [0, 5, 6, 6, 10, 13]
GRADES = [0.0, 2.0, 1.0, 0.0, 4.0, 3.0, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0]


def session_scores(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(GRADES), dtype=torch.float64, generator=generator).requires_grad_()


def slow_lambdas(scores: list[float], grades: list[float], k: int, sigma: float) -> list[float]:
    """Burges 2010, sections 3 and 4: the gradient with respect to each score of one session."""
    by_score = sorted(range(len(scores)), key=lambda i: -scores[i])

    def discount(place: int) -> float:
        return 1 / math.log2(1 + place) if place <= k else 0.0

    def dcg(gains: list[float]) -> float:
        return sum(gain * discount(place + 1) for place, gain in enumerate(gains))

    def gains_after_swap(i: int, j: int) -> list[float]:
        order = [{i: j, j: i}.get(item, item) for item in by_score]
        return [2 ** grades[item] - 1 for item in order]

    ideal = dcg(sorted((2**y - 1 for y in grades), reverse=True))
    lambdas = [0.0] * len(scores)
    for i in range(len(scores)):
        for j in range(len(scores)):
            if grades[i] > grades[j]:
                delta = abs(dcg(gains_after_swap(i, j)) - dcg(gains_after_swap(i, i))) / ideal
                pull = sigma * delta / (1 + math.exp(sigma * (scores[i] - scores[j])))
                lambdas[i] -= pull
                lambdas[j] += pull
    return lambdas


def lightgbm_lambdas(scores: list[float], grades: list[int], truncation: int, sigmoid: float) -> list[float]:
    """``LambdarankNDCG::GetGradientsForOneQuery`` of LightGBM with ``lambdarank_norm=False``."""
    gain = [2**y - 1 for y in grades]
    position_discount = [1 / math.log2(2 + place) for place in range(len(scores))]
    best_gains = sorted(gain, reverse=True)[:truncation]
    max_dcg = sum(g * d for g, d in zip(best_gains, position_discount, strict=False))
    inverse_max_dcg = 1 / max_dcg if max_dcg > 0 else 0.0
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    lambdas = [0.0] * len(scores)
    for i in range(min(truncation, len(scores) - 1)):
        for j in range(i + 1, len(scores)):
            if grades[order[i]] == grades[order[j]]:
                continue
            high_rank, low_rank = (i, j) if grades[order[i]] > grades[order[j]] else (j, i)
            high, low = order[high_rank], order[low_rank]
            delta_score = scores[high] - scores[low]
            paired_discount = abs(position_discount[high_rank] - position_discount[low_rank])
            delta_pair_ndcg = (gain[high] - gain[low]) * paired_discount * inverse_max_dcg
            p_lambda = 1 / (1 + math.exp(sigmoid * delta_score))
            p_lambda *= -sigmoid * delta_pair_ndcg
            lambdas[low] -= p_lambda
            lambdas[high] += p_lambda
    return lambdas


def sliced(values: list[T], session: int) -> list[T]:
    return values[SESSIONS[session] : SESSIONS[session + 1]]


@pytest.mark.parametrize("k", [1, 2, 3, 10, None])
@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_lambdarank_gradient_matches_the_slow_double_loop(k: int | None, sigma: float) -> None:
    scores_B = session_scores()
    loss = lambdarank(scores_B, torch.tensor(GRADES), torch.tensor(SESSIONS), k=k, sigma=sigma)
    loss.backward()
    slow = []
    for s in range(len(SESSIONS) - 1):
        slow += slow_lambdas(sliced(scores_B.tolist(), s), sliced(GRADES, s), k or 100, sigma)
    expected_B = torch.tensor(slow, dtype=torch.float64) / (len(SESSIONS) - 1)
    torch.testing.assert_close(scores_B.grad, expected_B)


def test_lambdarank_gradient_is_lightgbms_on_lists_within_the_truncation() -> None:
    scores_B = session_scores(seed=1)
    lambdarank(scores_B, torch.tensor(GRADES), torch.tensor(SESSIONS), k=5, sigma=1.5).backward()
    theirs = []
    for s in range(len(SESSIONS) - 1):
        grades = [int(y) for y in sliced(GRADES, s)]
        theirs += lightgbm_lambdas(sliced(scores_B.tolist(), s), grades, truncation=5, sigmoid=1.5)
    expected_B = torch.tensor(theirs, dtype=torch.float64) / (len(SESSIONS) - 1)
    torch.testing.assert_close(scores_B.grad, expected_B)


def test_lambdarank_knows_no_neighbouring_session_and_no_absolute_score() -> None:
    scores_B, grades_B = session_scores(), torch.tensor(GRADES)
    whole = lambdarank(scores_B, grades_B, torch.tensor(SESSIONS), k=3)
    alone = [
        lambdarank(scores_B[a:b], grades_B[a:b], torch.tensor([0, b - a]), k=3)
        for a, b in itertools.pairwise(SESSIONS)
    ]
    torch.testing.assert_close(whole, torch.stack(alone).mean())
    shifted_B = scores_B + torch.tensor([5.0] * 5 + [-3.0] + [1.0] * 4 + [0.0] * 3)
    torch.testing.assert_close(lambdarank(shifted_B, grades_B, torch.tensor(SESSIONS), k=3), whole)


def test_lambdarank_of_nothing_is_zero_with_a_gradient() -> None:
    for offsets in ([0], [0, 0, 0]):
        weight = torch.ones((), requires_grad=True)
        loss = lambdarank(weight * torch.zeros(0), torch.zeros(0), torch.tensor(offsets))
        loss.backward()
        assert loss.item() == 0.0
        assert weight.grad is not None
        assert weight.grad.item() == 0.0


def test_lambdarank_orders_tied_scores_as_they_come() -> None:
    scores_B = torch.zeros(3, requires_grad=True)
    lambdarank(scores_B, torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0, 3]), k=1).backward()
    # Only the swap of ranks 1 and 2 changes NDCG@1: by all of it.
    torch.testing.assert_close(scores_B.grad, torch.tensor([0.5, -0.5, 0.0]))


def test_squared_error_is_summed_over_features_and_averaged_over_rows() -> None:
    x_BF, y_BF = (
        torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 3.0]]),
        torch.tensor([[0.0, 0.0], [0.0, 1.0], [3.0, 1.0]]),
    )
    rows = zip(x_BF.tolist(), y_BF.tolist(), strict=True)
    slow = sum((a - b) ** 2 for x, y in rows for a, b in zip(x, y, strict=True)) / 3
    assert squared_error(x_BF, y_BF).item() == pytest.approx(slow)


def test_koleo_matches_the_slow_loop() -> None:
    vectors_BD = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = vectors_BD.tolist()
    nearest = [min(math.dist(a, b) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)]
    assert koleo(vectors_BD).item() == pytest.approx(-sum(map(math.log, nearest)) / 9, rel=1e-6)


def test_koleo_finds_the_nearest_far_from_the_origin() -> None:
    vectors_BD = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    far_BD = (vectors_BD + 1_000).double()
    assert koleo(far_BD.float()).item() == pytest.approx(koleo(far_BD).item(), abs=1e-6)


def test_koleo_parts_the_nearest_and_bears_twins_and_loners() -> None:
    vectors_BD = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0]], requires_grad=True)
    koleo(vectors_BD).backward()
    assert vectors_BD.grad is not None
    assert vectors_BD.grad[0, 0] > 0 > vectors_BD.grad[1, 0]  # descent drives them apart
    assert vectors_BD.grad[:2].norm() > 10 * vectors_BD.grad[2].norm()
    twins_BD = torch.zeros(2, 2, requires_grad=True)
    koleo(twins_BD).backward()
    assert twins_BD.grad is not None
    assert bool(torch.isfinite(twins_BD.grad).all())
    assert koleo(torch.ones(1, 2)).item() == 0.0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk", [0, 1, 5, 64])
def test_full_softmax_is_cross_entropy_over_all_items(chunk: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    query_ND = torch.randn(17, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    item_ID = torch.randn(11, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    targets_N = torch.randint(11, (17,), generator=generator)
    weights_N = torch.arange(17, dtype=torch.float64) % 4 if weighted else None
    terms = []
    for n, target in enumerate(targets_N.tolist()):
        scores_I = query_ND[n] @ item_ID.T
        terms.append((scores_I.logsumexp(0) - scores_I[target]) * (n % 4 if weighted else 1))
    expected = torch.stack(terms).sum() / 17
    wanted = torch.autograd.grad(3 * expected, (query_ND, item_ID))
    found = full_softmax(query_ND, item_ID, targets_N, weights_N=weights_N, chunk=chunk)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    for gradient, want in zip(torch.autograd.grad(3 * found, (query_ND, item_ID)), wanted, strict=True):
        torch.testing.assert_close(gradient, want, rtol=1e-10, atol=1e-12)


def test_full_softmax_survives_scores_that_overflow_exp() -> None:
    query_ND = torch.tensor([[300.0, 0.0]], requires_grad=True)
    item_ID = torch.eye(2, requires_grad=True)
    loss = full_softmax(query_ND, item_ID, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(300.0)
    assert query_ND.grad is not None
    torch.testing.assert_close(query_ND.grad, torch.tensor([[1.0, -1.0]]))


def test_full_softmax_under_autocast_stays_close() -> None:
    generator = torch.Generator().manual_seed(3)
    query_ND, item_ID = torch.randn(40, 16, generator=generator), torch.randn(9, 16, generator=generator)
    targets_N = torch.randint(9, (40,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        found = full_softmax(query_ND, item_ID, targets_N)
    torch.testing.assert_close(found, full_softmax(query_ND, item_ID, targets_N), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_is_the_papers_formula(calibration: float) -> None:
    generator = torch.Generator().manual_seed(5)
    query_ND = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    item_ID = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    targets_N, negatives_K = torch.tensor([0, 1, 2, 3, 3, 8]), torch.tensor([3, 5, 7])
    sigmoid = torch.nn.functional.sigmoid
    alpha = 3 / 8
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    total = torch.zeros((), dtype=torch.float64)
    heavy = torch.zeros((), dtype=torch.float64)
    for n, target in enumerate(targets_N.tolist()):
        term = (sigmoid(query_ND[n] @ item_ID[target]) ** beta).log()
        for k in negatives_K.tolist():
            if k != target:
                term = term + (1 - sigmoid(query_ND[n] @ item_ID[k])).log()
        total, heavy = total - term / 4, heavy - n * term / 4
    drawn = item_ID[targets_N], item_ID[negatives_K], targets_N, negatives_K
    scores = drawn_scores(query_ND, *drawn)
    found = gbce(scores, 9, calibration=calibration)
    torch.testing.assert_close(found, total / 6)
    weights_N = torch.arange(6, dtype=torch.float64)
    found = gbce(scores, 9, calibration=calibration, weights_N=weights_N)
    torch.testing.assert_close(found, heavy / 6)


def test_drawn_softmax_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(5)
    query_ND = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    item_ID = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    targets_N, drawn_K = torch.tensor([0, 1, 2, 2]), torch.tensor([2, 5, 5, 3, 1])
    chance_I = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.1, 0.2], dtype=torch.float64)
    weights_N = torch.arange(4, dtype=torch.float64)
    total = heavy = torch.zeros((), dtype=torch.float64)
    for n, target in enumerate(targets_N.tolist()):
        own = (query_ND[n] @ item_ID[target]).exp()
        others = [
            (query_ND[n] @ item_ID[k]).exp() / (5 * chance_I[k]) for k in drawn_K.tolist() if k != target
        ]
        term = -(own / (own + sum(others))).log()
        total, heavy = total + term, heavy + n * term
    scores = drawn_scores(query_ND, item_ID[targets_N], item_ID[drawn_K], targets_N, drawn_K)
    logq_K = chance_I[drawn_K].log()
    torch.testing.assert_close(drawn_softmax(scores, logq_K), total / 4)
    torch.testing.assert_close(drawn_softmax(scores, logq_K, weights_N=weights_N), heavy / 4)


def test_drawn_softmax_estimates_the_full_one() -> None:
    """Of many draws, by any chances, the value and the gradient are those over the whole catalogue."""
    generator = torch.Generator().manual_seed(5)
    query_ND = torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    item_ID = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    targets_N = torch.tensor([0, 1, 2, 2])
    chance_I = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.1, 0.2], dtype=torch.float64)
    drawn_K = torch.multinomial(chance_I, 200_000, replacement=True, generator=generator)
    scores = drawn_scores(query_ND, item_ID[targets_N], item_ID[drawn_K], targets_N, drawn_K)
    found, expected = (
        drawn_softmax(scores, chance_I[drawn_K].log()),
        full_softmax(query_ND, item_ID, targets_N),
    )
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.0)
    (ours,) = torch.autograd.grad(found, query_ND)
    (whole,) = torch.autograd.grad(expected, query_ND)
    torch.testing.assert_close(ours, whole, rtol=0.0, atol=0.01)
