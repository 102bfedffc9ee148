"""A driver on a node of ``benchmarks.nodes``: trains planted batches on Ray workers, says what came of it.

python -m tests.launch.nodes_work '{"workers": 2, "run": "x"}' '{"hold_at": 16, "flag": "/shared/flag"}'
"""

import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from recray import checkpoint
from recray.batch import PairBatch
from recray.cli import guarded
from recray.launch import launch
from recray.track import history
from recray.track.console import setup_logging
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from tests.launch.test_launch import new_model
from tests.planted import PlantedBatches


@dataclass(frozen=True)
class Run:
    epochs: int = 3
    hold_at: int = -1  # global step at which the last worker waits for what is coming to it, once
    flag: str = ""  # file that says it waited
    step_s: float = 0.0  # that each step takes longer


class Held(PlantedBatches):
    def __init__(self, run: Run, context: Context) -> None:
        super().__init__()
        self.run, self.context = run, context

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> PairBatch:
        time.sleep(self.run.step_s)
        last = rank == self.context.world_size - 1
        if last and epoch * self.steps + step == self.run.hold_at and not Path(self.run.flag).exists():
            Path(self.run.flag).touch()
            time.sleep(600)
        return super().batch(epoch, step, rank, world_size)


def train(run: Run, context: Context) -> None:
    def validate(model: nn.Module) -> dict[str, tuple[float, float]]:
        return {"ndcg@10": (float(context.world_size), 1.0)}

    config = LoopConfig(epochs=run.epochs, patience=0, checkpoint_every_steps=4)
    optim = OptimConfig(lr=0.05, schedule="cosine")
    fit(new_model(), Held(run, context), validate, config=config, optim=optim, context=context, seed=3)


def main(options: dict[str, object], work: dict[str, object]) -> None:
    done = launch(train, Run(**work), LaunchConfig(**options), "t")  # type: ignore[arg-type]
    model = new_model()
    checkpoint.load_model(done.checkpoint, model)
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    reports = history.by_epoch(done.history(), "ndcg@10")
    said = {
        "weights": digest.hexdigest(),
        "workers": [int(report["ndcg@10"]) for report in reports],
        "norms": [float(value.norm()) for _, value in sorted(model.state_dict().items())],
    }
    print(json.dumps(said))


if __name__ == "__main__":
    setup_logging()
    raise SystemExit(guarded(lambda: main(*map(json.loads, sys.argv[1:]))))
