"""Run models x data sets x seeds, each as a task, and write one page that compares them.

recray experiment my.json
recray experiment my.json --launch.where local   # one after the other, here; goes on where it was
recray experiment my.json --json found.json      # what the page says, for a program too
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path

import tyro

from recray.cli.jobs import run_job
from recray.folders import write_whole
from recray.pipelines.experiment import read_experiment, run_experiment
from recray.pipelines.experiment_page import render
from recray.pipelines.experiment_summary import summary
from recray.schema import DataError
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class RunExperiment:
    file: tyro.conf.Positional[Path]
    """JSON: data sets, models with their settings, protocol, seeds (docs/experiments.md)."""
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    """Where; `cpus_per_worker` and `gpu` are what one run gets."""
    json: Path | None = None
    """A file for what the page says, as data."""


def experiment(job: RunExperiment) -> None:
    experiment = read_experiment(job.file)
    results, failed = run_experiment(experiment, job.launch)
    target = experiment.folder / "page.html"
    if results:
        write_whole(target, render(experiment, results, failed).encode())
        print(f"{len(results)} runs compared in {target}")
    if job.json and results:
        write_whole(job.json, (dumps(summary(experiment, results, failed), indent=1) + "\n").encode())
    if failed:
        raise DataError("; ".join(map(str, failed)))


def main(args: Sequence[str]) -> int:
    return run_job("experiment", experiment, RunExperiment, __doc__, args)
