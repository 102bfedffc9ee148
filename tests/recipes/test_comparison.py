"""A comparison measures the best weights of each model, not its last ones."""

import pytest
import torch
from torch import nn

from recray.config import ConfigError
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.recipes import Recipe, comparison
from recray.track.history import Report
from recray.train.context import Context
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from tests.planted import SCHEMA, PlantedBatches


def test_what_is_no_retriever_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'dlrm' scores rows.*jobs/train_dlrm.py, measures it"):
        comparison.compare_models("ml-100k", "leave-one-out", ["dlrm"], 1)


def test_the_best_weights_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, seen = iter([0.1, 0.9, 0.2]), []

    def validate(model: nn.Module) -> dict[str, tuple[float, float]]:
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"ndcg@10": (next(scores), 1.0)}

    def train(run: object, context: Context) -> TwoTower:
        model = TwoTower(TwoTowerConfig(embedding_dim=8), SCHEMA)
        config = LoopConfig(epochs=3, patience=0)
        fit(model, PlantedBatches(), validate, config=config, optim=OptimConfig(), context=context)
        return model

    monkeypatch.setattr(comparison, "recipe", lambda _: Recipe({}, train))
    reports: list[Report] = []
    best = comparison._train_to_best("two_tower", None, "title", reports)
    assert [report["ndcg@10"] for report in reports] == [0.1, 0.9, 0.2]
    assert all(torch.equal(v, seen[1][k]) for k, v in best.state_dict().items())
