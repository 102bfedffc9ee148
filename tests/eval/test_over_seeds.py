"""Differences over users and seeds: held against simulation, and against what users alone would say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from recray.config import ConfigError
from recray.eval.evaluate import Evaluation
from recray.eval.over_seeds import Runs, difference, holm, of_model
from recray.schema import ProtocolCard

CARD = ProtocolCard(
    dataset="films", dataset_hash="ab12", split="leave-one-out", target="test", relevance="all", k_core=0
)


def run(values_U: np.ndarray) -> Evaluation:
    return Evaluation(
        card=CARD, per_query={"ndcg@10": values_U}, scalars={}, user_ids_U=np.arange(len(values_U))
    )


def model(
    rng: np.random.Generator, users_U: np.ndarray, mean: float, seed_std: float, seeds: int = 3
) -> Runs:
    noise = rng.normal(0, 0.1, (seeds, len(users_U)))
    return Runs([run(mean + rng.normal(0, seed_std) + users_U + noise_U) for noise_U in noise], draws=True)


def once(values_U: np.ndarray) -> Runs:
    return Runs([run(values_U)], draws=False)


@pytest.mark.parametrize("seed_std", [0.0, 0.02])
def test_models_that_are_alike_are_told_apart_as_seldom_as_is_said(seed_std: float) -> None:
    rng, false = np.random.default_rng(0), 0
    for _ in range(400):
        users_U = rng.normal(0, 0.3, 200)
        a, b = (model(rng, users_U, 0.5, seed_std) for _ in range(2))
        false += difference(a, b, "ndcg@10").p_value < 0.05
    assert false <= 33  # of 20 that are due; more by chance once in 500


def test_users_alone_are_surer_than_users_and_seeds() -> None:
    rng = np.random.default_rng(1)
    users_U = rng.normal(0, 0.3, 2000)
    a, b = model(rng, users_U, 0.5, 0.02), model(rng, users_U, 0.5, 0.02)
    means = [np.mean([one.per_query["ndcg@10"] for one in runs.evaluations], axis=0) for runs in (a, b)]
    alone = stats.ttest_rel(*means).pvalue
    both = difference(a, b, "ndcg@10")
    assert alone < 0.01 < both.p_value
    assert both.mean == pytest.approx(float(np.mean(means[0] - means[1])))
    assert both.low < 0 < both.high


def test_without_seeds_it_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(2)
    a_U, b_U = rng.normal(0.5, 0.2, 50), rng.normal(0.45, 0.2, 50)
    found = difference(once(a_U), once(b_U), "ndcg@10")
    said = stats.ttest_rel(a_U, b_U)
    assert found.p_value == pytest.approx(said.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(said.confidence_interval()))
    one = of_model(once(a_U), "ndcg@10")
    assert one.mean == pytest.approx(a_U.mean())


def test_users_stand_in_any_order_and_the_same_is_the_same() -> None:
    values_U = np.random.default_rng(3).random(20)
    order = np.random.default_rng(4).permutation(20)
    turned = Evaluation(
        card=CARD, per_query={"ndcg@10": values_U[order]}, scalars={}, user_ids_U=np.arange(20)[order]
    )
    same = difference(once(values_U), Runs([turned], draws=False), "ndcg@10")
    assert same == (0.0, 0.0, 0.0, 1.0)


def test_what_cannot_be_compared_is_refused() -> None:
    one = run(np.ones(5))
    with pytest.raises(ConfigError, match="no metric 'ndcg@5'"):
        of_model(once(np.ones(5)), "ndcg@5")
    with pytest.raises(ConfigError, match="one user was asked"):
        of_model(once(np.ones(1)), "ndcg@10")
    elsewhere = Runs([replace(one, card=replace(CARD, dataset="books"))], draws=False)
    with pytest.raises(ConfigError, match="dataset: 'films' and 'books'"):
        difference(once(np.ones(5)), elsewhere, "ndcg@10")


def test_one_seed_of_a_model_that_draws_says_nothing_of_others() -> None:
    rng = np.random.default_rng(5)
    users_U = rng.normal(0, 0.3, 100)
    alone, three = model(rng, users_U, 0.5, 0.02, seeds=1), model(rng, users_U, 0.4, 0.02)
    found = difference(alone, three, "ndcg@10")
    assert found.mean > 0
    assert np.isnan([found.low, found.high, found.p_value]).all()
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)


def test_holm_is_that_of_the_paper() -> None:
    """Adjusted by hand: 4 x .005, 3 x .01, 2 x .03, then no less than before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
