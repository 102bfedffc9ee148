"""Train a two-tower retriever on Ray Train workers and publish it, ready to be searched.

python jobs/train_two_tower.py ml-100k --optim.lr 1e-3 --launch.workers 2
"""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from recray.cli.jobs import run_preset_job
from recray.cli.show import show_evaluation
from recray.eval.compare import Row
from recray.launch.stages import train_retriever
from recray.ops.ann import IndexConfig
from recray.recipes import RECIPES
from recray.recipes.retrieval import TwoTowerRun
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class TrainTwoTower:
    """A run, where it happens, and the index that is published with it."""

    run: Annotated[TwoTowerRun, tyro.conf.arg(name="")] = field(default_factory=TwoTowerRun)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    index: IndexConfig = field(default_factory=IndexConfig)


def main(job: TrainTwoTower) -> None:
    trained = train_retriever(job.run, job.launch, job.index, Store())
    show_evaluation([Row("two_tower", job.run.seed, trained.evaluation)])
    recall = {k: v for k, v in trained.bundle.manifest.metrics.items() if k.startswith("index_recall")}
    print(f"published {trained.bundle.reference}; {job.index.kind} index: {recall}")


if __name__ == "__main__":
    presets = {
        name: (text, TrainTwoTower(run=run)) for name, (text, run) in RECIPES["two_tower"].presets.items()
    }
    run_preset_job(main, presets, __doc__)
