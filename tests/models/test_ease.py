"""EASE against the regressions that it solves, one by one."""

import math

import numpy as np
import pytest
import torch

from recray.arrays import Float64s
from recray.batch import Jagged, QueryBatch
from recray.config import ConfigError
from recray.models.ease import EASE, EASEConfig
from recray.schema import DataError, FeatureSchema

NUM_USERS, NUM_ITEMS = 40, 14  # nobody takes the last two items
SCHEMA = FeatureSchema(num_users=NUM_USERS, num_items=NUM_ITEMS)
RNG = np.random.default_rng(0)
USERS_N, ITEMS_N = (torch.from_numpy(RNG.integers(0, top, 250)) for top in (NUM_USERS, NUM_ITEMS - 2))
WEIGHTS_N = torch.from_numpy(RNG.integers(1, 6, 250).astype(np.float32))


def fitted(config: EASEConfig, weights_N: torch.Tensor | None = None) -> EASE:
    model = EASE(config, SCHEMA)
    model.learn(USERS_N, ITEMS_N, weights_N)
    return model


def taken_by(weights: list[float]) -> Float64s:
    taken_UI = np.zeros((NUM_USERS, NUM_ITEMS))
    for user, item, weight in zip(USERS_N.tolist(), ITEMS_N.tolist(), weights, strict=True):
        taken_UI[user, item] = max(taken_UI[user, item], weight / max(weights))
    return taken_UI


def ridge(taken_UI: Float64s, l2: float) -> Float64s:
    """Every item regressed on all others (equation 4 with its constraint): a row more for each penalty."""
    weights_II = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for j in range(NUM_ITEMS):
        others = [i for i in range(NUM_ITEMS) if i != j]
        rows = np.vstack([taken_UI[:, others], math.sqrt(l2) * np.eye(len(others))])
        wanted = np.concatenate([taken_UI[:, j], np.zeros(len(others))])
        weights_II[others, j] = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return weights_II


def queries(histories: list[list[int]]) -> QueryBatch:
    history = Jagged.from_rows(histories)
    users = torch.full((len(histories),), -1)
    return QueryBatch(users, history, torch.zeros_like(history.values_N), torch.zeros_like(users))


@pytest.mark.parametrize("l2", [0.5, 20.0])
@pytest.mark.parametrize("weights_N", [None, WEIGHTS_N])
def test_weights_are_those_of_the_regressions(
    l2: float, weights_N: torch.Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recray.models.ease._ROWS", 5)
    monkeypatch.setattr("recray.models.user_item.BLOCK_CELLS", 3 * NUM_ITEMS)
    weights = [1.0] * len(USERS_N) if weights_N is None else weights_N.tolist()
    expected_II = ridge(taken_by(weights), l2)
    np.testing.assert_allclose(fitted(EASEConfig(l2=l2), weights_N).weights_II, expected_II, atol=1e-6)


def test_a_history_adds_up_its_rows_newer_ones_more() -> None:
    model = fitted(EASEConfig(l2=3.0, recency=2.0))
    rows = model.weights_II.numpy()
    [scores_I] = model.score_items(queries([[4, 9, 4, 1]])).numpy()
    expected_I = (0.1 + math.exp(-1 / 2)) * rows[4] + (0.1 + math.exp(-2 / 2)) * rows[9] + 1.1 * rows[1]
    np.testing.assert_allclose(scores_I[: NUM_ITEMS - 2], expected_I[: NUM_ITEMS - 2], rtol=1e-5)
    assert (scores_I[NUM_ITEMS - 2 :] < scores_I[: NUM_ITEMS - 2].min()).all()


def test_without_recency_order_and_repeats_do_not_matter() -> None:
    scores = fitted(EASEConfig(l2=3.0)).score_items(queries([[3, 8], [8, 3, 3, 8], []]))
    assert torch.equal(scores[0], scores[1])
    assert (scores[2, : NUM_ITEMS - 2] == 0).all()


def test_learning_again_replaces_what_was_learnt() -> None:
    model = fitted(EASEConfig(l2=3.0))
    model.learn(torch.tensor([0, 0]), torch.tensor([1, 2]))
    assert model.is_learnt_I.nonzero().flatten().tolist() == [1, 2]
    assert model.weights_II.count_nonzero() == 2
    none = torch.zeros(0, dtype=torch.int64)
    model.learn(none, none)
    assert not model.weights_II.any()


def test_wrong_settings_ids_and_sizes_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="l2 must be above 0, got 0"):
        EASEConfig(l2=0)
    with pytest.raises(ConfigError, match="recency must not be negative, got -1"):
        EASEConfig(recency=-1)
    with pytest.raises(ConfigError, match="of 14 items 0.0 GiB.*raise model.max_items 13"):
        EASE(EASEConfig(max_items=13), SCHEMA)
    with pytest.raises(DataError, match=r"item ids must be 0 or more and below 14, got 3\.\.14"):
        EASE(EASEConfig(), SCHEMA).learn(torch.tensor([0, 1]), torch.tensor([3, 14]))
