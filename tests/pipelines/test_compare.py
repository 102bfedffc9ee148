"""A comparison measures the best weights of each model, not its last ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from recray.config import ConfigError
from recray.data.events.split_data import DataConfig, SplitData
from recray.data.events.splits import everything
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.pipelines import compare
from recray.recipes.pairs import TwoTowerRecipe, TwoTowerRun
from recray.train.context import Context
from recray.train.loop import LoopConfig, Sums
from tests.data.made import dataset_of
from tests.planted import PlantedBatches, planted_history


def test_what_is_no_retriever_is_refused() -> None:
    with pytest.raises(ConfigError, match="'dlrm' does not rank the catalogue.* its own job measures it"):
        compare.compare_models(DataConfig(dataset="ml-100k", split="leave-one-out"), ["dlrm"], 1)


@dataclass(frozen=True)
class Scripted(TwoTowerRecipe):
    """Its validations say 0.1, 0.9 and 0.2, and note the weights that they saw."""

    seen: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def batches(self, run: TwoTowerRun, data: SplitData) -> Any:
        return PlantedBatches()

    def validation(self, run: TwoTowerRun, data: SplitData, context: Context) -> Callable[[nn.Module], Sums]:
        scores: Iterator[float] = iter([0.1, 0.9, 0.2])

        def validate(model: nn.Module) -> Sums:
            self.seen.append({k: v.clone() for k, v in model.state_dict().items()})
            return {"ndcg@10": (next(scores), 1.0)}

        return validate


def test_the_best_weights_are_compared() -> None:
    recipe = Scripted("scripted", {}, "", sized=lambda _: TwoTowerRun(), kind="two_tower")
    run = TwoTowerRun(model=TwoTowerConfig(embedding_dim=8), loop=LoopConfig(epochs=3, patience=0))
    users_N, items_N = (ids_N.tolist() for ids_N in planted_history())
    dataset = dataset_of([(u, i, n) for n, (u, i) in enumerate(zip(users_N, items_N, strict=True))])
    reports: list[dict[str, float]] = []
    best = compare._best(recipe, run, SplitData(dataset, everything(dataset)), "title", reports)
    assert [report["ndcg@10"] for report in reports] == [0.1, 0.9, 0.2]
    assert isinstance(best, TwoTower)
    forgotten = ~best.item_tower.ids.weight.any(
        dim=1
    )  # of the split, which the planted batches know nothing of
    recipe.seen[1]["item_tower.ids.weight"][forgotten] = 0.0
    assert all(torch.equal(v, recipe.seen[1][k]) for k, v in best.state_dict().items())
