"""Train a DLRM on rows of clicks, on Ray Train workers, and publish it.

python jobs/train_dlrm.py ml-1m --model.interaction dcnv2 --launch.workers 2
"""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from recray.cli.jobs import run_preset_job
from recray.cli.show import show_summary
from recray.launch.rows import train_dlrm
from recray.recipes.clicks import DLRM_PRESETS, DLRMRun
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class TrainDLRM:
    """A run, and where it happens."""

    run: Annotated[DLRMRun, tyro.conf.arg(name="")] = field(default_factory=DLRMRun)
    launch: LaunchConfig = field(default_factory=LaunchConfig)


def main(job: TrainDLRM) -> None:
    trained = train_dlrm(job.run, job.launch, Store())
    show_summary("dlrm", trained.evaluation.summary(), trained.evaluation.card)
    print(f"published {trained.bundle.reference}")


if __name__ == "__main__":
    presets = {name: (text, TrainDLRM(run=run)) for name, (text, run) in DLRM_PRESETS.items()}
    run_preset_job(main, presets, __doc__)
