"""Train what production serves again, with what its application logged since, and judge it before it is live.

recray retrain ml-100k-ranker
recray retrain ml-100k-ranker --then canary --every 1d
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from recray.cli.jobs import run_job
from recray.eval.ages import seconds
from recray.pipelines.retrain import RetrainConfig, Round, retrain, rounds_dir
from recray.pipelines.schedule import run_every
from recray.schema import DataError
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class Retrain:
    application: tyro.conf.Positional[str]
    """The application's bundle, as `recray versions` lists it."""
    config: Annotated[RetrainConfig, tyro.conf.arg(name="")] = field(default_factory=RetrainConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    every: str = ""
    """Again and again, such as 1d, until it is stopped; what was missed is done once."""
    json: bool = False
    """Print the steps as JSON instead of lines."""


def retrain_and_judge(job: Retrain) -> None:
    done = run_rounds(job.application, job.config, job.launch, job.every)
    if job.json:
        print(json.dumps([{"step": step.name, "what": step.text} for step in done.steps], indent=2))
        return
    for step in done.steps:
        print(f"{step.name}: {step.text}")
    print(f"written down in {done.file}")


def run_rounds(name: str, config: RetrainConfig, where: LaunchConfig, every: str) -> Round:
    """One round, or one after another for good.

    Raises:
        DataError: the round ended at a step; on a schedule that is logged, and the next one comes.
    """
    if every:
        run_every(
            seconds(every),
            rounds_dir(name) / "schedule.json",
            lambda: retrain(name, config, where, Store()),
        )
    done = retrain(name, config, where, Store()).round
    if done.failed:
        raise DataError(f"{name} stays as it is: {done.failed.name}: {done.failed.text} ({done.file})")
    return done


def main(args: Sequence[str]) -> int:
    return run_job("retrain", retrain_and_judge, Retrain, __doc__, args)
