"""iALS against normal equations written down pair by pair."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recray.arrays import Float64s
from recray.batch import Jagged, QueryBatch
from recray.config import ConfigError
from recray.models.ials import IALS, IALSConfig
from recray.schema import DataError, FeatureSchema

NUM_USERS, NUM_ITEMS = 30, 14  # nobody takes the last two items
SCHEMA = FeatureSchema(num_users=NUM_USERS, num_items=NUM_ITEMS)
RNG = np.random.default_rng(0)
USERS_N, ITEMS_N = (torch.from_numpy(RNG.integers(0, top, 200)) for top in (NUM_USERS, NUM_ITEMS - 2))
WEIGHTS_N = torch.from_numpy(RNG.integers(1, 6, 200).astype(np.float32))
CONFIG = IALSConfig(embedding_dim=5, unobserved_weight=0.2, l2=0.05, frequency_power=0.7, iterations=3)


def fitted(config: IALSConfig, weights_N: torch.Tensor | None = None, seed: int = 1) -> IALS:
    model = IALS(config, SCHEMA)
    torch.manual_seed(seed)
    model.learn(USERS_N, ITEMS_N, weights_N)
    return model


def counts(weights: list[float]) -> Float64s:
    """c_ui, 0 where a pair was not observed."""
    count_UI = np.zeros((NUM_USERS, NUM_ITEMS))
    for user, item, weight in zip(USERS_N.tolist(), ITEMS_N.tolist(), weights, strict=True):
        count_UI[user, item] = max(count_UI[user, item], weight / max(weights))
    return count_UI


def solved(count_RO: Float64s, other_OD: Float64s, config: IALSConfig) -> Float64s:
    """For each row the minimum of its part of the objective, every pair by itself."""
    found = []
    for count_O in count_RO:
        learnt_from = count_O.sum() + config.unobserved_weight * len(other_OD)
        normal_DD = config.l2 * learnt_from**config.frequency_power * np.eye(other_OD.shape[1])
        wanted_D = np.zeros(other_OD.shape[1])
        for count, other_D in zip(count_O, other_OD, strict=True):
            normal_DD += (count + config.unobserved_weight) * np.outer(other_D, other_D)
            wanted_D += count * other_D
        found.append(np.linalg.solve(normal_DD, wanted_D))
    return np.array(found)


def objective(count_UI: Float64s, user_UD: Float64s, item_ID: Float64s, config: IALSConfig) -> float:
    scores_UI = user_UD @ item_ID.T
    sides = ((count_UI, user_UD, NUM_ITEMS), (count_UI.T, item_ID, NUM_USERS))
    frequencies = [
        (count.sum(1) + config.unobserved_weight * others) ** config.frequency_power
        for count, _, others in sides
    ]
    penalty = sum(
        (frequency * (side[1] ** 2).sum(1)).sum() for frequency, side in zip(frequencies, sides, strict=True)
    )
    observed = (count_UI * (1 - scores_UI) ** 2).sum()
    return float(observed + config.unobserved_weight * (scores_UI**2).sum() + config.l2 * penalty)


@pytest.mark.parametrize("weights_N", [None, WEIGHTS_N])
def test_items_are_those_of_the_slow_loop(
    weights_N: torch.Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recray.models.ials._BLOCK_NUMBERS", 150)  # a few rows a block
    count_UI = counts([1.0] * 200 if weights_N is None else weights_N.tolist())
    torch.manual_seed(1)
    item_ID = torch.randn(NUM_ITEMS, 5).double().numpy() * 0.1 / math.sqrt(5)
    reached = []
    for _ in range(CONFIG.iterations):
        user_UD = solved(count_UI, item_ID, CONFIG)
        item_ID = solved(count_UI.T, user_UD, CONFIG)
        reached.append(objective(count_UI, user_UD, item_ID, CONFIG))
    assert reached == sorted(reached, reverse=True)
    np.testing.assert_allclose(fitted(CONFIG, weights_N).item_vectors(), item_ID, rtol=1e-3, atol=1e-5)


def test_a_user_is_what_it_did_newer_items_more() -> None:
    model = fitted(IALSConfig(embedding_dim=5, l2=0.05, recency=2.0))
    history = Jagged.from_rows([[4, 9, 4, 1], []])
    ids_B = torch.tensor([-1, 3])
    queries = QueryBatch(ids_B, history, torch.zeros(4, dtype=torch.int64), torch.zeros_like(ids_B))
    count_I = np.zeros(NUM_ITEMS)
    count_I[[9, 4, 1]] = 0.1 + math.exp(-2 / 2), 0.1 + math.exp(-1 / 2), 1.1
    expected_BD = solved(count_I[None], model.item_vectors().double().numpy(), model.config)
    query_BD = model.query_vectors(queries)
    np.testing.assert_allclose(query_BD[:1], expected_BD, rtol=1e-3)
    assert not query_BD[1].any()
    scores_BI = model.score_items(queries)
    assert (scores_BI[:, -2:] < scores_BI[:, :-2].amin(dim=1, keepdim=True)).all()


def test_the_seed_decides() -> None:
    assert torch.equal(fitted(CONFIG).item_ID, fitted(CONFIG).item_ID)
    assert not torch.equal(fitted(CONFIG).item_ID, fitted(CONFIG, seed=2).item_ID)


def test_nothing_learnt_says_nothing() -> None:
    model, none = IALS(CONFIG, SCHEMA), torch.zeros(0, dtype=torch.int64)
    model.learn(none, none)
    assert not model.item_ID.any()


def test_wrong_settings_and_ids_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="must be at least 1, got 0 and 16"):
        IALSConfig(embedding_dim=0)
    with pytest.raises(ConfigError, match="must be above 0, got 0 and 0.003"):
        IALSConfig(unobserved_weight=0)
    with pytest.raises(ConfigError, match=r"must not be negative, got -1 and 0\.0"):
        IALSConfig(frequency_power=-1)
    with pytest.raises(DataError, match=r"item ids must be 0 or more and below 14, got 3\.\.14"):
        IALS(CONFIG, SCHEMA).learn(torch.tensor([0, 1]), torch.tensor([3, 14]))


def test_a_block_of_short_rows_holds_few_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their entries alone 4,096 rows of one item would fit, and 4,096 matrices of 256 x 256 are a GiB."""
    model = IALS(IALSConfig(embedding_dim=256), FeatureSchema(num_users=40, num_items=3))
    sizes, block = list[int](), model._block

    def measured(rows: sp.csr_array, other_OD: torch.Tensor, unobserved_DD: torch.Tensor) -> torch.Tensor:
        sizes.append(rows.shape[0])
        return block(rows, other_OD, unobserved_DD)

    monkeypatch.setattr(model, "_block", measured)
    rows = sp.csr_array(np.ones((40, 1), np.float32) * np.eye(1, 3, dtype=np.float32))
    other_OD = torch.ones(3, 256)
    found_RD = model._solved(rows, other_OD)
    assert sizes == [16, 16, 8]  # 2**20 numbers at most
    assert torch.equal(found_RD[0].expand(40, -1), found_RD)
