"""SLIM against scikit-learn's elastic net, an item at a time."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet

from recray.arrays import Float64s
from recray.config import ConfigError
from recray.models.slim import SLIM, SLIMConfig
from recray.models.user_item import shares, taken_matrix
from recray.schema import FeatureSchema
from tests.planted import planted_queries

NUM_USERS, NUM_ITEMS = 60, 14  # nobody takes the last two items
SCHEMA = FeatureSchema(num_users=NUM_USERS, num_items=NUM_ITEMS)
RNG = np.random.default_rng(0)
USERS_N, ITEMS_N = (torch.from_numpy(RNG.integers(0, top, 250)) for top in (NUM_USERS, NUM_ITEMS - 2))
WEIGHTS_N = torch.from_numpy(RNG.integers(1, 6, 250).astype(np.float32))


def fitted(config: SLIMConfig, weights_N: torch.Tensor | None = None) -> SLIM:
    model = SLIM(config, SCHEMA)
    model.learn(USERS_N, ITEMS_N, weights_N)
    return model


def elastic_nets(taken_UI: Float64s, l1: float, l2: float) -> Float64s:
    """Every item on all others (equation 4), whose ``alpha`` and ``l1_ratio`` are of a mean over users."""
    users, weights_II = len(taken_UI), np.zeros((NUM_ITEMS, NUM_ITEMS))
    alpha, ratio = (l1 + l2) / users, l1 / (l1 + l2)
    for j in range(NUM_ITEMS):
        others = [i for i in range(NUM_ITEMS) if i != j]
        net = ElasticNet(
            alpha=alpha, l1_ratio=ratio, fit_intercept=False, positive=True, tol=1e-10, max_iter=10_000
        )
        weights_II[others, j] = net.fit(taken_UI[:, others], taken_UI[:, j]).coef_
    return weights_II


@pytest.mark.parametrize(("l1", "l2"), [(0.5, 0.2), (2.0, 10.0)])
@pytest.mark.parametrize("weights_N", [None, WEIGHTS_N])
def test_weights_are_those_of_elastic_nets(l1: float, l2: float, weights_N: torch.Tensor | None) -> None:
    taken_UI = shares(taken_matrix(USERS_N, ITEMS_N, NUM_ITEMS, weights_N)).toarray().astype(float)
    expected_II = elastic_nets(taken_UI, l1, l2)
    found_II = fitted(SLIMConfig(l1=l1, l2=l2), weights_N).weights_II.numpy()
    np.testing.assert_allclose(found_II, expected_II, atol=2e-5)
    is_zero = found_II[: NUM_ITEMS - 2, : NUM_ITEMS - 2] == 0
    assert (NUM_ITEMS - 2) < is_zero.sum() < is_zero.size  # some weights beside the diagonal, not all


def test_threads_and_sweeps_change_no_weight_that_stands_still() -> None:
    wanted = fitted(SLIMConfig(l1=0.5, l2=1.0)).weights_II
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(fitted(SLIMConfig(l1=0.5, l2=1.0, sweeps=500)).weights_II, wanted)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(fitted(SLIMConfig(l1=0.5, l2=1.0, sweeps=1)).weights_II, wanted)


def test_an_item_that_nobody_shares_is_below_what_is_learnt() -> None:
    scores_BI = fitted(SLIMConfig()).score_items(planted_queries([-1]))
    assert (scores_BI[0, NUM_ITEMS - 2 :] < scores_BI[0, : NUM_ITEMS - 2].min()).all()


def test_wrong_settings_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="l1 and l2 must be above 0, got 0 and 1"):
        SLIMConfig(l1=0, l2=1)
    with pytest.raises(ConfigError, match="sweeps must be at least 1, got 0"):
        SLIMConfig(sweeps=0)
    with pytest.raises(ConfigError, match="recency must not be negative, got -1"):
        SLIMConfig(recency=-1)
    with pytest.raises(ConfigError, match="SLIM has a weight for each pair of items"):
        SLIM(SLIMConfig(max_items=13), SCHEMA)
