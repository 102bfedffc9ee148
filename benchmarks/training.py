"""What Ray Train costs: samples/s of the two-tower loop in one Ray worker and in this process.

python -m benchmarks.training [--rounds 5] [--gpu]

The same task runs in turn, locally and on Ray; the clock starts after the first steps and stops with
the last, so that starting a worker is not counted. The last line is one JSON object.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from benchmarks.load import Load, watched
from recray.batch import PairBatch
from recray.data.batches.pairs import PairBatches
from recray.data.events.split_data import DataConfig
from recray.launch import launch
from recray.recipes.pairs import TWO_TOWER, TwoTowerRun
from recray.track.console import setup_logging
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig, Sums, fit

WARM_UP_STEPS = 20
RESULT = Path(__file__).parent / "results" / "training.json"


@dataclass
class Clocked:
    """A batch source that notes when the warm-up was over and how many samples came after it."""

    batches: PairBatches
    asked: int = 0
    samples: int = 0
    started_s: float = 0.0

    def num_steps(self) -> int:
        return self.batches.num_steps()

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> PairBatch:
        batch = self.batches.batch(epoch, step, rank, world_size)
        self.asked += 1
        if self.asked == WARM_UP_STEPS:
            self.started_s = time.perf_counter()
        elif self.asked > WARM_UP_STEPS:
            self.samples += len(batch.user_ids_B)
        return batch


def timed(run: TwoTowerRun, context: Context) -> None:
    """Trains without validation and reports samples/s as the run's only metric."""
    data = TWO_TOWER.open(run)
    source = Clocked(PairBatches(data.dataset, data.split.train_N, run.loop.batch_size, run.seed))

    def no_validation(_: nn.Module) -> Sums:
        return {run.loop.metric: (0.0, 1.0)}

    fit(
        TWO_TOWER.new(run, data),
        source,
        no_validation,
        config=run.loop,
        optim=run.optim,
        context=Context(context.rank, context.world_size, context.device),
    )
    if context.device.type == "cuda":
        torch.cuda.synchronize()
    elapsed_s = time.perf_counter() - source.started_s
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "done").touch()
        context.report({"samples_per_s": source.samples / elapsed_s}, Path(folder))


def samples_per_s(run: TwoTowerRun, config: LaunchConfig) -> float:
    name = f"benchmark-{config.where}-{time.time_ns()}"
    return launch(timed, run, replace(config, run=name), "benchmark").metrics["samples_per_s"]


@watched
def main(load: Load) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--gpu", action="store_true")
    args = parser.parse_args()
    setup_logging()
    torch.set_num_threads(1)  # what a Ray worker of one core uses
    loop = LoopConfig(epochs=10, batch_size=1024, patience=0, evaluate_every=10)
    run = TwoTowerRun(data=DataConfig(dataset=args.dataset), loop=loop)
    wheres: tuple[Literal["local", "ray"], ...] = ("local",) if args.gpu else ("local", "ray")
    rates: dict[str, list[float]] = {"local": [], "ray": []}
    for _ in range(args.rounds):
        for where in wheres:
            rates[where].append(samples_per_s(run, LaunchConfig(where=where, workers=1, gpu=args.gpu)))
            print(f"{where:6} {rates[where][-1]:>12,.0f} samples/s")
    result: dict[str, object] = {
        f"{k}_samples_per_s": round(statistics.median(v)) for k, v in rates.items() if v
    }
    if rates["ray"]:
        pairs = zip(rates["ray"], rates["local"], strict=True)
        result["ray_vs_local"] = round(statistics.median(r / q for r, q in pairs), 3)
    result |= {"rounds": args.rounds, "dataset": args.dataset, "batch_size": loop.batch_size, "gpu": args.gpu}
    load.finish(result, RESULT.with_name("training-gpu.json") if args.gpu else RESULT)


if __name__ == "__main__":
    main()
