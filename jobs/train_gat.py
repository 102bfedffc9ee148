"""Train graph attention on the user-item graph on Ray Train workers and publish it, ready to be searched.

python jobs/train_gat.py ml-100k --data.split random --two-tower
"""

from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from recray.bundles.weights import load_model
from recray.cli.jobs import run_preset_job
from recray.cli.show import show_evaluation, show_parts
from recray.eval.compare import Row
from recray.launch.stages import train_retriever
from recray.ops.ann import IndexConfig
from recray.recipes import RECIPES, preset
from recray.recipes.graph import GATRun, measure_parts
from recray.recipes.retrieval import model_name, prepared
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class TrainGAT:
    """A run, where it happens, and the index that is published with it."""

    run: Annotated[GATRun, tyro.conf.arg(name="")] = field(default_factory=GATRun)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    two_tower: bool = False
    """Train, measure and publish the two-tower too, by its preset on the same split."""


def main(job: TrainGAT) -> None:
    beside = replace(preset("two_tower", job.run.data.dataset), data=job.run.data, seed=job.run.seed)
    rows = []
    for run in (job.run, beside) if job.two_tower else (job.run,):
        name = model_name(run)
        launch = job.launch if run is job.run else replace(job.launch, run="")
        trained = train_retriever(run, launch, job.index, Store())
        print(f"published {trained.bundle.reference}")
        show_parts(
            f"{name}: links and ranking", measure_parts(load_model(trained.bundle), prepared(run.data))
        )
        rows.append(Row(name, run.seed, trained.evaluation))
    show_evaluation(rows)


if __name__ == "__main__":
    presets = {name: (text, TrainGAT(run=run)) for name, (text, run) in RECIPES["gat"].presets.items()}
    run_preset_job(main, presets, __doc__)
