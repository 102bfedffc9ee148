"""A DLRM with sharded tables on Ray workers, one of which is killed at a step drawn at random."""

import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from recray import checkpoint
from recray.batch import RankingBatch
from recray.data.batches.rows import MemoryRows
from recray.launch import RunResult, launch
from recray.ops.embedding_bags import EmbeddingConfig, Placement
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from tests.train.elastic_world import BATCH, new_model, rows

EMBEDDING = EmbeddingConfig(sharding="row_wise")


@dataclass(frozen=True)
class Run:
    kill_at: int = -1  # step at which the last worker dies, once
    flag: str = ""  # file that says it already died


class Deadly(MemoryRows):
    """Fetching one of its batches kills the process that asks, as the kernel would: no clean-up."""

    def __init__(self, run: Run) -> None:
        super().__init__(rows(), BATCH, seed=2)
        self.run = run

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> RankingBatch:
        if rank == world_size - 1 and step == self.run.kill_at and not Path(self.run.flag).exists():
            Path(self.run.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(epoch, step, rank, world_size)


def train(run: Run, context: Context) -> None:
    fit(
        new_model(Placement(context.rank, context.world_size), EMBEDDING),
        Deadly(run),
        lambda _: {"none": (0.0, 1.0)},
        config=LoopConfig(epochs=1, patience=0, metric="none", checkpoint_every_steps=10),
        optim=OptimConfig(lr=0.01),
        context=context,
    )


def weights(result: RunResult) -> dict[str, torch.Tensor]:
    model = new_model(Placement(), EMBEDDING)
    checkpoint.load_model(result.checkpoint, model)
    return model.state_dict()


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_worker_changes_no_weight(ray_cluster: None, tmp_path: Path) -> None:
    kill_at = random.Random().randrange(5, 95)
    whole = launch(train, Run(), LaunchConfig(workers=2, run="whole-dlrm"), "t")
    deadly = Run(kill_at=kill_at, flag=str(tmp_path / "died"))
    survived = launch(train, deadly, LaunchConfig(workers=2, run="killed-dlrm"), "t")
    assert Path(deadly.flag).exists()
    mine, theirs = weights(whole), weights(survived)
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), f"{name} differs after a death at step {kill_at}"
