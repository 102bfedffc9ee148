"""Masking, chunking and per-rank sums of the evaluation, against a loop over single queries."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.config import ConfigError
from recray.eval.evaluate import Evaluation, evaluate, sums
from recray.eval.metrics import per_query_metrics
from recray.schema import DataError, ProtocolCard
from recray.train.context import Context
from recray.train.loop import reduce_sums

NUM_USERS, NUM_ITEMS = 23, 40
CARD = ProtocolCard(
    dataset="planted", dataset_hash="0", split="random", target="test", relevance="all", k_core=0
)
COUNTS = np.arange(NUM_ITEMS)


def examples_of(histories: list[list[int]], targets: list[list[int]]) -> EvalExamples:
    history = Jagged.from_rows(histories)
    times = torch.zeros(len(history.values_N), dtype=torch.int64)
    users = torch.arange(len(histories))
    return EvalExamples(QueryBatch(users, history, times, torch.zeros_like(users)), Jagged.from_rows(targets))


@pytest.fixture(scope="module")
def examples() -> EvalExamples:
    rng = np.random.default_rng(0)
    orders = rng.permuted(np.tile(np.arange(NUM_ITEMS), (NUM_USERS, 1)), axis=1).tolist()
    sizes = rng.integers(0, 12, size=NUM_USERS)  # some histories are empty
    histories = [order[:n] + order[: n // 2] for order, n in zip(orders, sizes, strict=True)]  # repeats too
    return examples_of(histories, [order[n : n + 1 + n % 4] for order, n in zip(orders, sizes, strict=True)])


@pytest.fixture(scope="module")
def table() -> Tensor:
    """Scores of every user, with ties."""
    return torch.randint(0, 9, (NUM_USERS, NUM_ITEMS), generator=torch.Generator().manual_seed(0)).float()


def run(table: Tensor, examples: EvalExamples, *, card: ProtocolCard = CARD, chunk: int = 512) -> Evaluation:
    return evaluate(lambda q: table[q.user_ids_B], examples, card, COUNTS, ks=(1, 5), chunk=chunk)


@pytest.mark.parametrize("seen", ["filtered", "kept"])
def test_equals_a_loop_over_users(table: Tensor, examples: EvalExamples, seen: str) -> None:
    got = run(table, examples, card=dataclasses.replace(CARD, seen=seen))
    for u in range(NUM_USERS):
        scores = table[u : u + 1].clone()
        if seen == "filtered":
            scores[0, examples.queries.history.row(u)] = -math.inf
        alone = per_query_metrics(scores, examples.targets.slice(u, u + 1), [1, 5])
        for name, value in alone.items():
            assert got.per_query[name][u] == value.item(), (name, u)
    assert got.user_ids_U.tolist() == list(range(NUM_USERS))


@settings(max_examples=15, deadline=None)
@given(chunk=st.integers(1, NUM_USERS + 1))
def test_chunks_do_not_matter(table: Tensor, examples: EvalExamples, chunk: int) -> None:
    whole, parts = run(table, examples), run(table, examples, chunk=chunk)
    for name, values in whole.per_query.items():
        np.testing.assert_array_equal(values, parts.per_query[name])
    assert parts.scalars == pytest.approx(whole.scalars, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(NUM_USERS)))
def test_the_order_of_users_does_not_matter(table: Tensor, examples: EvalExamples, order: list[int]) -> None:
    moved = examples_of(
        [examples.queries.history.row(u).tolist() for u in order],
        [examples.targets.row(u).tolist() for u in order],
    )
    before, after = run(table, examples), run(table[order], moved)
    for name, values in before.per_query.items():
        np.testing.assert_array_equal(values[order], after.per_query[name])
    assert after.scalars == pytest.approx(before.scalars, abs=1e-12)


def test_what_the_model_returns_is_not_written_to(examples: EvalExamples) -> None:
    counts = torch.arange(NUM_ITEMS).float()
    # An expanded view: writing -inf into one row would write it into all of them.
    evaluate(lambda q: counts.expand(len(q.user_ids_B), -1), examples, CARD, COUNTS)
    assert torch.equal(counts, torch.arange(NUM_ITEMS).float())


def test_no_gradients_are_kept_and_threads_are_put_back(table: Tensor, examples: EvalExamples) -> None:
    threads = torch.get_num_threads()
    weights = table.clone().requires_grad_()
    grad_modes = []

    def score(queries: QueryBatch) -> Tensor:
        grad_modes.append(torch.is_grad_enabled())
        return 2 * weights[queries.user_ids_B]

    evaluate(score, examples, CARD, COUNTS)
    assert grad_modes == [False]
    assert torch.get_num_threads() == threads


def test_summary_holds_every_metric_with_its_interval(table: Tensor, examples: EvalExamples) -> None:
    got = run(table, examples)
    summary = got.summary(num_resamples=200)
    families = ("recall", "hit", "ndcg", "mrr", "map", "novelty", "popularity_bias", "coverage")
    assert set(summary) == {f"{name}@{k}" for name in families for k in (1, 5)} | {"auc"}
    for name, values in got.per_query.items():
        assert summary[name].low <= summary[name].mean <= summary[name].high
        assert summary[name].mean == pytest.approx(values.mean())
        assert got.means()[name] == values.mean()
    assert math.isnan(summary["coverage@5"].low)
    assert 0 < summary["coverage@1"].mean < summary["coverage@5"].mean <= 1
    assert summary["ndcg@5"] == got.summary(num_resamples=200)["ndcg@5"]


def test_sums_of_ranks_give_the_means_of_all(table: Tensor, examples: EvalExamples) -> None:
    whole = run(table, examples)
    parts = []
    for start, stop in ((0, 4), (4, 20), (20, NUM_USERS)):  # uneven on purpose: a mean of means is wrong
        shard = EvalExamples(examples.queries.slice(start, stop), examples.targets.slice(start, stop))
        parts.append(sums(run(table, shard)))
    expected = {name: values.mean() for name, values in whole.per_query.items()}
    added = {n: (sum(p[n][0] for p in parts), sum(p[n][1] for p in parts)) for n in expected}
    assert reduce_sums(added, Context()) == pytest.approx(expected, abs=1e-12)


def test_a_seen_target_is_an_error_only_where_seen_items_are_filtered(table: Tensor) -> None:
    examples = examples_of([[1], [2, 3]], [[5], [3]])
    with pytest.raises(DataError, match="target item 3 of query 1 is masked"):
        run(table, examples)
    run(table, examples, card=dataclasses.replace(CARD, seen="kept"))


def test_nan_scores_name_the_query_beyond_the_first_chunk(table: Tensor, examples: EvalExamples) -> None:
    broken = table.clone()
    broken[17, 5] = float("nan")
    unseen = 5 not in examples.queries.history.row(17)
    assert unseen
    with pytest.raises(DataError, match="query 17 is NaN"):
        run(broken, examples, chunk=4)


def test_lists_beyond_the_catalogue_are_the_whole_catalogue(table: Tensor, examples: EvalExamples) -> None:
    found = evaluate(lambda q: table[q.user_ids_B], examples, CARD, COUNTS, ks=(40, 41, 1000))
    for name, values_U in found.per_query.items():
        if name.endswith("@40"):
            for k in (41, 1000):
                np.testing.assert_array_equal(found.per_query[name.replace("@40", f"@{k}")], values_U)
    assert found.scalars["coverage@40"] == found.scalars["coverage@1000"]


def test_wrong_requests_say_what_is_wrong(table: Tensor, examples: EvalExamples) -> None:
    with pytest.raises(ConfigError, match=r"shape \(23, 39\), expected \(23, 40\)"):
        run(table[:, :-1], examples)
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        evaluate(lambda q: table[q.user_ids_B], examples, CARD, COUNTS, ks=(0,))
    with pytest.raises(ConfigError, match="chunk"):
        run(table, examples, chunk=0)
    with pytest.raises(ConfigError, match="hidden"):
        run(table, examples, card=dataclasses.replace(CARD, seen="hidden"))
    with pytest.raises(DataError, match="no queries"):
        run(table, examples_of([], []))
