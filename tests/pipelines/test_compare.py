"""A comparison measures the best weights of each model, not its last ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from recray.config import ConfigError, override
from recray.data.events.split_data import DataConfig, SplitData
from recray.data.events.splits import everything
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.pipelines import compare
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_for
from recray.recipes.pairs import TwoTowerRecipe, TwoTowerRun
from recray.store import Store
from recray.train.context import Context, LaunchConfig
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
    forgotten = ~best.item_tower.ids.all_rows().any(
        dim=1
    )  # of the split, which the planted batches know nothing of
    recipe.seen[1]["item_tower.ids.weight"][forgotten] = 0.0
    assert all(torch.equal(v, recipe.seen[1][k]) for k, v in best.state_dict().items())


def test_models_with_settings_and_published_versions_stand_in_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    log = tmp_path / "shop.csv"
    rows = [f"u{n % 40},i{(7 * n + n // 40) % 61},{1_600_000_000 + 60 * n}" for n in range(1_200)]
    log.write_text("\n".join(["user,item,timestamp", *rows]))
    data = DataConfig(dataset=str(log), split="leave-one-out")
    run = override(run_for(RECIPES["item_knn"], str(log)), {"data": data, "model.num_neighbors": 5})
    version = train(RECIPES["item_knn"], run, LaunchConfig(where="local"), Store()).bundle.reference
    reference = f"{version.name}:{version.version}"
    words = [reference, "item_knn?model.num_neighbors=5", "popularity", "item_knn"]
    found = compare.compare_models(data, words, 2, (5, 10))
    assert [row.model for row in found] == [
        reference,
        "item_knn, model.num_neighbors 5",
        "popularity",
        "item_knn",
    ]
    assert len({row.evaluation.card for row in found}) == 1
    asked, trained, _, other = (row.evaluation for row in found)
    np.testing.assert_array_equal(asked.user_ids_U, np.sort(trained.user_ids_U))
    for name, values_U in trained.per_query.items():
        np.testing.assert_array_equal(asked.per_query[name], values_U[trained.user_ids_U.argsort()])
    assert not np.array_equal(trained.per_query["ndcg@10"], other.per_query["ndcg@10"])
    assert "ndcg@5" in asked.per_query
    log.write_text("\n".join(["user,item,timestamp", *rows, "u99,i1,1700000000", "u99,i2,1700000001"]))
    with pytest.raises(ConfigError, match=r"knows the users and items of 1,\d+ of 1,\d+ events of shop"):
        compare.compare_models(data, [reference], 1)
    with pytest.raises(ConfigError, match=r"no setting 'model\.neighbours' .*did you mean"):
        compare.compare_models(data, ["item_knn?model.neighbours=5"], 1)
    with pytest.raises(ConfigError, match="settings are model.name=value&name=value"):
        compare.compare_models(data, ["item_knn?5"], 1)
