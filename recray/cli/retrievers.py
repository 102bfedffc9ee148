"""The job that all retrievers share: train by a preset, measure on the test part, publish."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from recray.cli.jobs import run_preset_job
from recray.cli.show import show_evaluation
from recray.eval.compare import Row
from recray.launch.stages import train_retriever
from recray.ops.ann import IndexConfig
from recray.recipes import recipe
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class TrainRetriever:
    """A run, where it happens, and the index that is published with it."""

    run: Annotated[Any, tyro.conf.arg(name="")]
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    """Of the item vectors; of no use to models without any."""


def run_retriever_job(model: str, description: str | None) -> None:
    """Parses one of the model's presets and its changes, and does all of it; the process then ends."""

    def work(job: TrainRetriever) -> None:
        trained = train_retriever(job.run, job.launch, job.index, Store())
        show_evaluation([Row(model, job.run.seed, trained.evaluation)])
        recall = {k: v for k, v in trained.bundle.manifest.metrics.items() if k.startswith("index_recall")}
        index = f"{job.index.kind} index: {recall}" if recall else "searched without an index"
        print(f"published {trained.bundle.reference}; {index}")

    presets = {name: (text, TrainRetriever(run=run)) for name, (text, run) in recipe(model).presets.items()}
    run_preset_job(work, presets, description)
