"""Train a generative retriever (TIGER) on published semantic ids, and publish it.

python jobs/train_decoder.py ml-100k --optim.lr 3e-3 --launch.where local
"""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from recray.cli.jobs import run_preset_job
from recray.cli.show import show_evaluation
from recray.eval.compare import Row
from recray.launch.generative import train_generative
from recray.recipes import RECIPES
from recray.recipes.generative import DecoderRun
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class TrainDecoder:
    """A run, and where it happens."""

    run: Annotated[DecoderRun, tyro.conf.arg(name="")] = field(default_factory=DecoderRun)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    promote: bool = False
    """Make the new version the one in production."""


def main(job: TrainDecoder) -> None:
    store = Store()
    trained = train_generative(job.run, job.launch, store)
    show_evaluation([Row("decoder", job.run.seed, trained.evaluation)])
    print(f"published {trained.bundle.reference}")
    if job.promote:
        store.promote(trained.bundle.manifest.name, trained.bundle.manifest.version)


if __name__ == "__main__":
    presets = {
        name: (text, TrainDecoder(run=run)) for name, (text, run) in RECIPES["decoder"].presets.items()
    }
    run_preset_job(main, presets, __doc__)
