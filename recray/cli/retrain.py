"""Train what production serves again, with what its application logged since, and judge it before it is live.

recray retrain ml-100k-ranker
recray retrain ml-100k-ranker --then canary --every 1d
recray retrain ml-100k-ranker --every 1h --when-drift
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from recray.cli.jobs import run_job
from recray.eval.ages import seconds
from recray.monitor.drift_files import drift_dir, read_state
from recray.pipelines.retrain import RetrainConfig, Round, retrain, rounds, rounds_dir
from recray.pipelines.schedule import run_every
from recray.schema import DataError
from recray.store import Store
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retrain:
    application: tyro.conf.Positional[str]
    """The application's bundle, as `recray versions` lists it."""
    config: Annotated[RetrainConfig, tyro.conf.arg(name="")] = field(default_factory=RetrainConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    every: str = ""
    """Again and again, such as 1d, until it is stopped; what was missed is done once."""
    when_drift: bool = False
    """Only where an alarm of `recray drift` stands that the last round knew nothing of."""
    json: bool = False
    """Print the steps as JSON instead of lines."""


def retrain_and_judge(job: Retrain) -> None:
    if job.when_drift and not job.every and not drifts(job.application):
        return
    done = run_rounds(job.application, job.config, job.launch, job.every, when_drift=job.when_drift)
    if job.json:
        print(json.dumps([{"step": step.name, "what": step.text} for step in done.steps], indent=2))
        return
    for step in done.steps:
        print(f"{step.name}: {step.text}")
    print(f"written down in {done.file}")


def drifts(name: str) -> bool:
    """Whether an alarm stood at the last look that no round has answered with a version yet; said in the log
    where none does."""
    state = read_state(drift_dir(Store().root, name))
    last = max((one for one in rounds(name) if one.candidate), key=lambda one: one.at, default=None)
    if any(last is None or alarm.since > last.at for alarm in state.standing):
        return True
    if last and state.standing:
        why = f"{last.candidate} was trained since its alarms were raised"
    else:
        why = "no alarm stands" if state.looked_at else f"nobody has looked, `recray drift {name}` does"
    log.info("%s is not trained: %s", name, why)
    return False


def run_rounds(
    name: str, config: RetrainConfig, where: LaunchConfig, every: str, *, when_drift: bool = False
) -> Round:
    """One round, or one after another for good.

    Args:
        when_drift: on a schedule, only where an alarm stands.
    Raises:
        DataError: the round ended at a step; on a schedule that is logged, and the next one comes.
    """
    if every:
        run_every(
            seconds(every),
            rounds_dir(name) / "schedule.json",
            lambda: retrain(name, config, where, Store()) if not when_drift or drifts(name) else None,
        )
    done = retrain(name, config, where, Store()).round
    if done.failed:
        raise DataError(f"{name} stays as it is: {done.failed.name}: {done.failed.text} ({done.file})")
    return done


def main(args: Sequence[str]) -> int:
    return run_job("retrain", retrain_and_judge, Retrain, __doc__, args)
