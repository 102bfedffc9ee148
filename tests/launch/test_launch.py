"""Launchers: the same run locally and on Ray, and a worker that is killed in the middle of an epoch."""

import os
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from torch import nn

from recray import checkpoint, paths
from recray.batch import PairBatch
from recray.config import ConfigError
from recray.launch import RunResult, draw_curves, launch, run_name
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.ops.embedding_bags import EmbeddingConfig
from recray.track import history
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from tests.planted import SCHEMA, PlantedBatches


@dataclass(frozen=True)
class Run:
    epochs: int = 3
    kill_at: int = -1  # global step at which the last worker dies, once
    flag: str = ""  # file that says it already died


class Deadly(PlantedBatches):
    """Batches; fetching one of them kills the process that asks, as the kernel would: no clean-up."""

    def __init__(self, run: Run, context: Context) -> None:
        super().__init__()
        self.run, self.context = run, context

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> PairBatch:
        last = rank == self.context.world_size - 1
        if last and epoch * self.steps + step == self.run.kill_at and not Path(self.run.flag).exists():
            Path(self.run.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(epoch, step, rank, world_size)


def new_model() -> TwoTower:
    torch.manual_seed(0)
    return TwoTower(TwoTowerConfig(embedding_dim=8, dropout=0.2), SCHEMA)


def train(run: Run, context: Context) -> None:
    model = new_model()

    def validate(m: nn.Module) -> dict[str, tuple[float, float]]:
        assert isinstance(m, TwoTower)
        held_out = PlantedBatches().batch(99, 0, context.rank, context.world_size)
        return {"ndcg@10": (-float(m.loss(held_out)["loss"]), 1.0)}

    config = LoopConfig(epochs=run.epochs, patience=0, checkpoint_every_steps=4)
    optim = OptimConfig(lr=0.05, schedule="cosine")
    fit(model, Deadly(run, context), validate, config=config, optim=optim, context=context, seed=3)


def weights(result: RunResult) -> dict[str, torch.Tensor]:
    model = new_model()
    checkpoint.load_model(result.checkpoint, model)
    return model.state_dict()


def assert_equal_weights(a: RunResult, b: RunResult) -> None:
    mine, theirs = weights(a), weights(b)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_local_run_that_is_started_again_continues() -> None:
    once = launch(train, Run(epochs=3), LaunchConfig(where="local", run="once"), "t")
    again = launch(train, Run(epochs=3), LaunchConfig(where="local", run="once"), "t")
    assert_equal_weights(once, again)
    assert again.metrics["epoch"] == 3


def test_a_run_is_not_continued_with_other_settings() -> None:
    launch(train, Run(epochs=1), LaunchConfig(where="local", run="mine"), "t")
    with pytest.raises(ConfigError, match="run 'mine' was started with other settings .epochs was 1, now 2"):
        launch(train, Run(epochs=2), LaunchConfig(where="local", run="mine"), "t")
    with pytest.raises(ConfigError, match=r"'\.\./evil' cannot name a run"):
        launch(train, Run(), LaunchConfig(where="local", run="../evil"), "t")


SCORES = [0.1, 0.9, 0.2, 0.3, 0.4]  # of a validation after each epoch


@dataclass(frozen=True)
class Scored(Run):
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=len(SCORES), patience=0))


def train_to_scores(run: Scored, context: Context) -> None:
    scores = iter(SCORES)
    measured = lambda _: {"ndcg@10": (next(scores), 1.0)}  # noqa: E731
    fit(new_model(), PlantedBatches(), measured, config=run.loop, optim=OptimConfig(), context=context)


def assert_reports_and_curves_are_kept(done: RunResult) -> None:
    folder = paths.runs_dir() / done.name
    draw_curves(done, Scored().loop)
    assert done.history() == history.read(folder)
    assert [report["ndcg@10"] for report in history.read(folder)] == SCORES
    assert all(report["train_loss"] > 0 and report["grad_norm"] > 0 for report in history.read(folder))
    assert all(report["samples_per_s"] > 0 and report["wall_s"] > 0 for report in history.read(folder))
    assert imread(folder / "curves.png").std() > 0


def test_the_best_checkpoint_and_the_last_stay_and_the_best_comes_back() -> None:
    result = launch(train_to_scores, Scored(), LaunchConfig(where="local", run="kept", keep=1), "t")
    assert_reports_and_curves_are_kept(result)
    epochs = [checkpoint.progress(c)["epoch"] for c in sorted(result.checkpoint.parent.glob("checkpoint_*"))]
    assert epochs == [2, 5]
    assert checkpoint.progress(result.checkpoint)["epoch"] == 2


@pytest.mark.ray
def test_the_best_checkpoint_comes_back_from_ray(ray_cluster: None) -> None:
    result = launch(train_to_scores, Scored(), LaunchConfig(workers=1, run="kept-on-ray", keep=1), "t")
    assert_reports_and_curves_are_kept(result)
    assert checkpoint.progress(result.checkpoint)["epoch"] == 2
    assert result.metrics["epoch"] == 5


def test_what_a_killed_process_left_of_a_checkpoint_is_never_picked_up() -> None:
    once = launch(train, Run(epochs=3), LaunchConfig(where="local", run="half"), "t")
    half = once.checkpoint.parent / ".checkpoint_000099"
    half.mkdir()
    (half / "__0_0.distcp").write_bytes(b"half")
    again = launch(train, Run(epochs=3), LaunchConfig(where="local", run="half"), "t")
    assert again.checkpoint == once.checkpoint


@dataclass(frozen=True)
class Elastic(Run):
    tables: EmbeddingConfig = field(default_factory=EmbeddingConfig)


def test_a_run_may_be_continued_with_other_tables() -> None:
    config = LaunchConfig(where="local", run="elastic")
    launch(train, Elastic(epochs=1), config, "t")
    launch(train, Elastic(epochs=1, tables=EmbeddingConfig(backend="torchrec")), config, "t")
    with pytest.raises(ConfigError, match=r"tables.blocks was 1, now 2"):
        launch(train, Elastic(epochs=1, tables=EmbeddingConfig(sharding="column_wise")), config, "t")
    with pytest.raises(ConfigError, match=r"tables.lr was 0.02, now 0.5"):
        launch(train, Elastic(epochs=1, tables=EmbeddingConfig(lr=0.5)), config, "t")


def test_a_run_is_continued_where_it_was_started() -> None:
    launch(train, Run(epochs=1), LaunchConfig(where="local", run="here"), "t")
    with pytest.raises(ConfigError, match=r"launch.where was local, now ray"):
        launch(train, Run(epochs=1), LaunchConfig(where="ray", run="here"), "t")


def test_a_start_that_failed_does_not_keep_the_name() -> None:
    config = LaunchConfig(where="local", run="retried")
    with pytest.raises(ConfigError, match="way out"):
        launch(fail, Run(epochs=1), config, "t")
    (paths.runs_dir() / "retried" / "run.json").write_text("")  # cut off by a full disk
    assert launch(train, Run(epochs=2), config, "t").metrics["epoch"] == 2


def test_new_runs_never_share_a_name() -> None:
    assert len({run_name(LaunchConfig(), "t") for _ in range(20)}) == 20


def fail(run: Run, context: Context) -> None:
    raise ConfigError("the way out is here")


@pytest.mark.ray
def test_what_a_worker_said_comes_back_in_one_line(ray_cluster: None) -> None:
    config = LaunchConfig(workers=1, max_failures=0, run="failing")
    with pytest.raises(ConfigError, match="run 'failing' failed: .*the way out is here"):
        launch(fail, Run(), config, "t")


def count_and_fail(run: Run, context: Context) -> None:
    with Path(run.flag).open("a") as file:
        file.write("tried\n")
    raise ConfigError("no repetition cures this")


@pytest.mark.ray
def test_what_no_repetition_cures_is_not_repeated(ray_cluster: None, tmp_path: Path) -> None:
    run = Run(flag=str(tmp_path / "tries"))
    with pytest.raises(ConfigError, match="no repetition cures this"):
        launch(count_and_fail, run, LaunchConfig(workers=1, max_failures=2, run="hopeless"), "t")
    assert Path(run.flag).read_text() == "tried\n"


@pytest.mark.ray
def test_one_ray_worker_equals_the_local_run(ray_cluster: None) -> None:
    local = launch(train, Run(), LaunchConfig(where="local", run="local"), "t")
    on_ray = launch(train, Run(), LaunchConfig(where="ray", workers=1, run="on-ray"), "t")
    assert_equal_weights(local, on_ray)
    assert on_ray.metrics["best_ndcg@10"] == local.metrics["best_ndcg@10"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_worker_killed_in_mid_epoch_changes_nothing(ray_cluster: None, tmp_path: Path) -> None:
    config = LaunchConfig(where="ray", workers=2)
    whole = launch(train, Run(), replace(config, run="whole"), "t")
    deadly = Run(kill_at=16, flag=str(tmp_path / "died"))
    survived = launch(train, deadly, replace(config, run="survived"), "t")
    assert (tmp_path / "died").exists()
    assert_equal_weights(whole, survived)


@pytest.mark.ray
def test_workers_that_can_never_be_placed_are_refused(ray_cluster: None) -> None:
    with pytest.raises(ConfigError, match="9 workers with 1 CPU each do not fit .*: 4 would"):
        launch(train, Run(), LaunchConfig(where="ray", workers=9), "t")


def test_a_gpu_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="PyTorch sees none: see `recray doctor`"):
        launch(train, Run(), LaunchConfig(where="local", gpu=True), "t")
