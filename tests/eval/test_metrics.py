"""The accuracy metrics against slow loops over every order of tied scores, ranx and scikit-learn."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score
from torch import Tensor

from recray.batch import Jagged
from recray.config import ConfigError
from recray.eval.metrics import per_query_metrics, require_metric
from recray.schema import DataError

INF = float("inf")
Example = tuple[list[list[float]], list[list[int]]]


def orders(scores: list[float]) -> Iterator[list[int]]:
    """Every ranking of the candidates that agrees with the scores."""
    candidates = [i for i, s in enumerate(scores) if s != -INF]
    levels = sorted({scores[i] for i in candidates}, reverse=True)
    groups = [itertools.permutations([i for i in candidates if scores[i] == level]) for level in levels]
    for parts in itertools.product(*map(list, groups)):
        yield [i for part in parts for i in part]


def slow_metrics(order: list[int], targets: set[int], k: int) -> dict[str, float]:
    """One ranking, straight from the definitions."""
    found = [p for p, item in enumerate(order[:k], start=1) if item in targets]
    ideal = sum(1 / math.log2(p + 1) for p in range(1, min(len(targets), k) + 1))
    right = [
        order.index(t) < order.index(o) for t in sorted(targets) for o in order if o not in targets
    ]  # (target, other) pairs
    return {
        f"recall@{k}": len(found) / len(targets),
        f"hit@{k}": float(bool(found)),
        f"ndcg@{k}": sum(1 / math.log2(p + 1) for p in found) / ideal,
        f"mrr@{k}": 1 / found[0] if found else 0.0,
        f"map@{k}": sum(n / p for n, p in enumerate(found, start=1)) / len(targets),
        "auc": sum(right) / len(right) if right else 0.5,
    }


def expected_metrics(scores: list[float], targets: list[int], k: int) -> dict[str, float]:
    """The mean over every order of tied scores."""
    runs = [slow_metrics(order, set(targets), k) for order in orders(scores)]
    return {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}


@st.composite
def tied_examples(draw: st.DrawFn, max_items: int = 6) -> Example:
    """A few queries over a small catalogue with few score levels, some items masked."""
    num_items = draw(st.integers(2, max_items))
    level = st.sampled_from([-INF, -1.0, 0.0, 0.5, 2.0])
    scores = draw(
        st.lists(
            st.lists(level, min_size=num_items, max_size=num_items).filter(lambda row: max(row) > -INF),
            min_size=1,
            max_size=3,
        )
    )
    targets = [
        draw(st.lists(st.sampled_from([i for i, s in enumerate(row) if s > -INF]), min_size=1, unique=True))
        for row in scores
    ]
    return scores, targets


def measured(example: Example, ks: list[int]) -> dict[str, Tensor]:
    scores, targets = example
    return per_query_metrics(torch.tensor(scores), Jagged.from_rows(targets), ks)


@settings(max_examples=150, deadline=None)
@given(tied_examples(), st.data())
def test_ties_are_the_mean_over_all_orders(example: Example, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(example[0][0])))
    got = measured(example, [k])
    for b, (scores, targets) in enumerate(zip(*example, strict=True)):
        for name, value in expected_metrics(scores, targets, k).items():
            assert got[name][b].item() == pytest.approx(value, abs=1e-12), (name, b)


def test_a_constant_scorer_gets_what_chance_would() -> None:
    num_items, k = 1000, 10
    got = per_query_metrics(torch.zeros(1, num_items), Jagged.from_rows([[7]]), [k])
    assert got["recall@10"].item() == pytest.approx(k / num_items)
    assert got["hit@10"].item() == pytest.approx(k / num_items)
    assert got["mrr@10"].item() == pytest.approx(sum(1 / p for p in range(1, k + 1)) / num_items)
    assert got["auc"].item() == 0.5


def test_hit_of_several_tied_targets_is_hypergeometric() -> None:
    got = per_query_metrics(torch.zeros(1, 3000), Jagged.from_rows([list(range(40))]), [100])
    missed = math.comb(2960, 100) / math.comb(3000, 100)
    assert got["hit@100"].item() == pytest.approx(1 - missed, rel=1e-12)


@pytest.fixture(scope="module")
def untied() -> tuple[Tensor, list[list[int]]]:
    """60 queries over 300 items without ties; 1 to 12 targets each."""
    rng = np.random.default_rng(0)
    ranks = np.argsort(rng.random((60, 300)), axis=1)
    targets = [rng.choice(300, size=n, replace=False).tolist() for n in rng.integers(1, 13, size=60)]
    return torch.from_numpy(ranks.astype(np.float32)), targets


@pytest.mark.slow  # ranx compiles its metrics on first use
@pytest.mark.filterwarnings("ignore:.*unsafe cast")  # numba compiles ranx on first use
def test_agrees_with_ranx_where_nothing_ties(untied: tuple[Tensor, list[list[int]]]) -> None:
    import ranx

    scores, targets = untied
    queries = [f"q{b:03d}" for b in range(len(targets))]
    relevant = [{f"d{i}": 1 for i in row} for row in targets]
    scored = [{f"d{i}": float(s) for i, s in enumerate(row)} for row in scores.tolist()]
    qrels = ranx.Qrels(dict(zip(queries, relevant, strict=True)))
    run = ranx.Run(dict(zip(queries, scored, strict=True)))
    ks = [1, 10, 50]
    names = {"recall": "recall", "hit_rate": "hit", "ndcg": "ndcg", "mrr": "mrr", "map": "map"}
    asked = [f"{name}@{k}" for name in names for k in ks]
    theirs = ranx.evaluate(qrels, run, asked, return_mean=False)
    ours = per_query_metrics(scores, Jagged.from_rows(targets), ks)
    for name, own in names.items():
        for k in ks:
            np.testing.assert_allclose(ours[f"{own}@{k}"], theirs[f"{name}@{k}"], atol=1e-12, err_msg=name)


def test_agrees_with_scikit_learn(untied: tuple[Tensor, list[list[int]]]) -> None:
    scores, targets = untied
    ours = per_query_metrics(scores, Jagged.from_rows(targets), [10, 300])
    relevant = np.zeros(scores.shape)
    for b, row in enumerate(targets):
        relevant[b, row] = 1
        auc = roc_auc_score(relevant[b], scores[b])
        assert ours["auc"][b].item() == pytest.approx(auc, abs=1e-12)
        precision = average_precision_score(relevant[b], scores[b])
        assert ours["map@300"][b].item() == pytest.approx(precision, abs=1e-12)
    assert ours["ndcg@10"].mean().item() == pytest.approx(
        ndcg_score(relevant, scores.numpy(), k=10), abs=1e-12
    )


def test_ndcg_and_auc_agree_with_scikit_learn_on_ties() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 8, size=(20, 200)).astype(np.float32)
    targets = [rng.choice(200, size=5, replace=False).tolist() for _ in range(20)]
    relevant = np.zeros(scores.shape)
    for b, row in enumerate(targets):
        relevant[b, row] = 1
    ours = per_query_metrics(torch.from_numpy(scores), Jagged.from_rows(targets), [10])
    for b in range(20):
        theirs = ndcg_score(relevant[b : b + 1], scores[b : b + 1], k=10)  # averages over ties too
        assert ours["ndcg@10"][b].item() == pytest.approx(theirs, abs=1e-12)
        assert ours["auc"][b].item() == pytest.approx(roc_auc_score(relevant[b], scores[b]), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(tied_examples(max_items=12))
def test_metrics_are_shares_and_grow_with_k(example: Example) -> None:
    num_items = len(example[0][0])
    got = measured(example, list(range(1, num_items + 1)))
    for name, values in got.items():
        assert values.dtype == torch.float64
        assert ((values >= 0) & (values <= 1)).all(), name
    for name in ("recall", "hit", "mrr", "map"):
        curve = torch.stack([got[f"{name}@{k}"] for k in range(1, num_items + 1)])
        assert (curve.diff(dim=0) >= -1e-12).all(), name
    assert torch.allclose(got[f"recall@{num_items}"], torch.ones(len(example[0]), dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(tied_examples(max_items=12))
def test_only_the_order_of_scores_matters(example: Example) -> None:
    scores, targets = example
    moved = [[3 * s + 1 if s > -INF else s for s in row] for row in scores]
    before, after = measured(example, [1, 2]), measured((moved, targets), [1, 2])
    for name in before:
        assert torch.equal(before[name], after[name]), name


@settings(max_examples=60, deadline=None)
@given(tied_examples(max_items=12), st.randoms(use_true_random=False))
def test_item_numbers_do_not_matter(example: Example, random: object) -> None:
    scores, targets = example
    order = list(range(len(scores[0])))
    random.shuffle(order)  # type: ignore[attr-defined]
    moved = [[row[i] for i in order] for row in scores], [[order.index(i) for i in row] for row in targets]
    before, after = measured(example, [2]), measured(moved, [2])
    for name in before:
        assert torch.allclose(before[name], after[name], atol=1e-12), name


def test_masked_items_take_no_place() -> None:
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])
    masked = torch.tensor([[-INF, 4.0, -INF, 2.0, -INF]])
    got = per_query_metrics(masked, Jagged.from_rows([[3]]), [1, 2, 5])
    assert (got["hit@1"].item(), got["mrr@5"].item(), got["auc"].item()) == (0, 0.5, 0)
    assert per_query_metrics(scores, Jagged.from_rows([[3]]), [5])["mrr@5"].item() == 0.25


def test_half_precision_and_double_scores_are_ranked_as_they_are() -> None:
    scores = torch.tensor([[1.0, 1.0 + 1e-12, 0.5]], dtype=torch.float64)
    assert per_query_metrics(scores, Jagged.from_rows([[0]]), [1])["hit@1"].item() == 0
    assert per_query_metrics(scores.bfloat16(), Jagged.from_rows([[0]]), [1])["hit@1"].item() == 0.5


def test_auc_without_other_candidates_is_one_half() -> None:
    scores = torch.tensor([[1.0, 2.0, -INF]])
    assert per_query_metrics(scores, Jagged.from_rows([[0, 1]]), [1])["auc"].item() == 0.5


def test_the_scores_are_left_alone() -> None:
    scores = torch.rand(3, 8)
    before = scores.clone()
    per_query_metrics(scores, Jagged.from_rows([[1], [2, 3], [4]]), [2])
    assert torch.equal(scores, before)


def test_nan_scores_name_the_query_and_the_item() -> None:
    scores = torch.zeros(3, 4)
    scores[2, 1] = float("nan")
    with pytest.raises(DataError, match="item 1 for query 102 is NaN"):
        per_query_metrics(scores, Jagged.from_rows([[0], [0], [0]]), [1], first_query=100)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([[0], [2]], "target item 2 of query 1 is masked"),
        ([[0], []], "query 1 has no target"),
        ([[0], [1, 0, 1]], "query 1 has target item 1 twice"),
        ([[0], [3]], "target item 3 of query 1 is not in the catalogue of 3"),
        ([[-1], [0]], "target item -1 of query 0 is not in the catalogue"),
        ([[0]], "2 rows of scores but targets for 1"),
    ],
)
def test_bad_targets_name_the_query(targets: list[list[int]], message: str) -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, -INF]])
    with pytest.raises(DataError, match=message):
        per_query_metrics(scores, Jagged.from_rows(targets), [1])


@pytest.mark.parametrize("ks", [[0], [1, -9], []])
def test_a_list_has_a_length(ks: list[int]) -> None:
    with pytest.raises(ConfigError, match="k"):
        per_query_metrics(torch.zeros(1, 3), Jagged.from_rows([[0]]), ks)


def test_a_list_beyond_the_catalogue_is_the_whole_catalogue() -> None:
    scores_BI = torch.tensor([[0.1, 0.3, 0.3, -INF], [5.0, 4.0, 3.0, 2.0]])
    found = per_query_metrics(scores_BI, Jagged.from_rows([[0], [3, 1]]), [4, 5, 900])
    for kind in ("recall", "hit", "ndcg", "mrr", "map"):
        for k in (5, 900):
            assert torch.equal(found[f"{kind}@{k}"], found[f"{kind}@4"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recal@20", "'recal@20' is not measured, did you mean 'recall@20'"),
        ("recall@0", "did you mean 'recall@10'"),
        ("recall", "did you mean 'recall@10'"),
        ("link_auc", "valid: auc, hit@10"),
        ("coverage@10", "not measured"),
    ],
)
def test_metrics_are_checked_by_name(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_metric(name)
    assert require_metric("ndcg@7") == 7
    assert require_metric("auc") is None
    assert require_metric("link_auc", ("auc", "link_auc")) is None
