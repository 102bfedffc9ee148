"""A search over a tiny space: trials run the loop, the best comes first, misspelt paths fail at once."""

from dataclasses import dataclass, field
from types import ModuleType

import pytest
from ray import tune
from torch import nn

from recray.config import ConfigError
from recray.launch.ray_tune import search
from recray.models.two_tower import TwoTower
from recray.recipes.dlrm import DLRMRun
from recray.recipes.pairs import TwoTowerRun
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from tests.launch.test_launch import new_model
from tests.planted import PlantedBatches
from tune_spaces import dlrm, two_tower


@dataclass(frozen=True)
class Run:
    optim: OptimConfig = field(default_factory=OptimConfig)


def train(run: Run, context: Context) -> None:
    def validate(m: nn.Module) -> dict[str, tuple[float, float]]:
        assert isinstance(m, TwoTower)
        return {"ndcg@10": (-float(m.loss(PlantedBatches().batch(99, 0))["loss"]), 1.0)}

    loop = LoopConfig(epochs=3, patience=0)
    fit(new_model(), PlantedBatches(), validate, config=loop, optim=run.optim, context=context)


@pytest.mark.ray
@pytest.mark.slow
def test_the_better_learning_rate_comes_first(ray_cluster: None) -> None:
    space = {"optim.lr": tune.grid_search([1e-6, 5e-2])}
    launch = LaunchConfig(run="tiny-search")
    trials = search(train, Run(), space, "ndcg@10", launch, title="t", num_samples=1, max_epochs=3)
    assert [trial.changes["optim.lr"] for trial in trials] == [5e-2, 1e-6]
    assert trials[0].score > trials[1].score


def test_a_misspelt_path_fails_before_any_trial() -> None:
    with pytest.raises(ConfigError, match="no setting 'optim.lrr' in OptimConfig, did you mean 'lr'"):
        search(
            train, Run(), {"optim.lrr": 1}, "ndcg@10", LaunchConfig(), title="t", num_samples=1, max_epochs=1
        )


@pytest.mark.parametrize(("space", "run"), [(two_tower, TwoTowerRun()), (dlrm, DLRMRun())])
def test_the_shipped_spaces_fit_their_run_configs(space: ModuleType, run: TwoTowerRun | DLRMRun) -> None:
    from recray.config import override

    for path, domain in space.SPACE.items():
        value = domain.sample()
        changed = override(run, {path: value})
        for part in path.split("."):
            changed = getattr(changed, part)
        assert changed == value
