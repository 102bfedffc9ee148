"""Train what production serves again, with what its application logged since, and judge it before it is live.

python jobs/retrain.py ml-100k-ranker
python jobs/retrain.py ml-100k-ranker --then canary --every 1d
"""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from recray.cli.jobs import run_job
from recray.cli.retrain import run_rounds
from recray.pipelines.retrain import RetrainConfig
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class Retrain:
    application: tyro.conf.Positional[str]
    """The application's bundle, as `recray versions` lists it."""
    config: Annotated[RetrainConfig, tyro.conf.arg(name="")] = field(default_factory=RetrainConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    every: str = ""
    """Again and again, such as 1d, until it is stopped; what was missed is done once."""


def main(job: Retrain) -> None:
    done = run_rounds(job.application, job.config, job.launch, job.every)
    for step in done.steps:
        print(f"{step.name}: {step.text}")
    print(f"written down in {done.file}")


if __name__ == "__main__":
    run_job(main, Retrain, __doc__)
