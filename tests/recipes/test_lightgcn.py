"""LightGCN's recipe: what the graph is made of, and that BPR-MF is LightGCN without layers."""

from dataclasses import replace

import pytest
import torch

from recray.config import ConfigError
from recray.data.events.split_data import DataConfig, split_as
from recray.models.lightgcn import LightGCN, LightGCNConfig
from recray.recipes.lightgcn import BPR, LIGHTGCN, LightGCNRecipe, LightGCNRun
from recray.train.context import Context
from recray.train.loop import LoopConfig
from tests.data.made import Row, dataset_of

ROWS: list[Row] = [(u, (3 * u + n * (u % 3 + 1)) % 8, 10 * n + u) for u in range(24) for n in range(5)]
TYPES = ["view" if n % 5 == 1 else "buy" for n in range(len(ROWS))]


def test_no_pair_that_is_held_out_or_weighs_nothing_is_a_message() -> None:
    data = split_as(dataset_of(ROWS, types=TYPES), choices := DataConfig(weights="buy=1"))
    learnt_N = data.split.learnt_N
    users_N, items_N = data.dataset.user_ids_N[learnt_N].tolist(), data.dataset.item_ids_N[learnt_N].tolist()
    learnt = set(zip(users_N, items_N, strict=True))
    assert 0 < len(learnt) < data.split.train_N.sum() < len(ROWS)
    run = LightGCNRun(data=choices, model=LightGCNConfig(embedding_dim=8, layers=1))
    model = LIGHTGCN.new(run, data)
    assert isinstance(model, LightGCN)
    with torch.no_grad():  # a layer carries what its sender holds: an item at a time
        for item in range(8):
            model.items.weight.zero_()[item] = 1.0
            model.users.weight.zero_()
            model.refresh()
            heard = model.user_UD.any(dim=1).nonzero().flatten().tolist()
            assert {(user, item) for user in heard} == {pair for pair in learnt if pair[1] == item}


@pytest.mark.parametrize("recipe", [BPR, LIGHTGCN])
def test_where_every_pair_occurs_lists_are_measured_and_links_are_not(recipe: LightGCNRecipe) -> None:
    data = split_as(dataset_of([(u, i, 10 * i + u) for u in range(6) for i in range(8)]), DataConfig())
    layers = 0 if recipe is BPR else 1
    run = LightGCNRun(model=LightGCNConfig(embedding_dim=4, layers=layers), loop=LoopConfig(epochs=1))
    reports: list[dict[str, float]] = []
    recipe.work(run, Context(report=lambda metrics, _: reports.append(metrics)), data=data)
    assert reports[-1]["ndcg@10"] > 0
    assert "link_auc" not in reports[-1]


def test_bpr_has_no_layers() -> None:
    assert all(run.model.layers == 0 for _, run in BPR.presets.values())
    run = BPR.presets["synthetic"][1]
    with pytest.raises(ConfigError, match="'bpr' has no layers, got model.layers 3: take lightgcn"):
        BPR.open(replace(run, model=LightGCNConfig()))
    with pytest.raises(ConfigError, match="negatives must be at least 1, got 0"):
        LightGCNRun(negatives=0)
