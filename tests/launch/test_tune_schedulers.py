"""What the schedulers of a search do to a trial's settings."""

from types import SimpleNamespace

from recray.launch.ray_tune import TRIAL, Proposal, _Pbt
from recray.pipelines.tune.spaces import open_space


def test_population_based_training_stays_within_the_space() -> None:
    space = open_space("two_tower")
    mutable = {path: space.settings[path] for path in space.budget.mutable}
    best = {"optim.lr": 0.02, "model.dropout": 0.6, "model.temperature": 0.05, "recency": 20.0}
    trials = [SimpleNamespace(config={TRIAL: Proposal(number, best)._asdict()}) for number in (1, 2)]
    scheduler = _Pbt(8, mutable, time_attr="epoch", metric="ndcg@10", mode="max")
    explored = []
    for _ in range(100):
        config, _ = scheduler._get_new_config(*trials)
        assert config[TRIAL]["number"] == 1
        explored.append(config[TRIAL]["changes"])
    for path, within in space.ranges().items():
        values = [changes.get(path) for changes in explored]
        if path not in mutable:
            assert set(values) == {best.get(path)}, path
        else:
            assert all(value == within.nearest(value) for value in values), path
            assert len(set(values)) > 1, path
