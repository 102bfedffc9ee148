"""Train a ranker on a published retriever's candidates, compare, and publish it.

python jobs/train_ranker.py --data.dataset ml-1m --data.split global-time --promote
python jobs/train_ranker.py --ranker dlrm
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from recray.cli.jobs import run_job
from recray.cli.show import show_evaluation, show_gain
from recray.eval.compare import Row, to_json
from recray.launch.stages import train_ranker
from recray.recipes.ranking import RankerRun
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class TrainRanker:
    """A run, where it happens, and whether its result is put into production."""

    run: Annotated[RankerRun, tyro.conf.arg(name="")] = field(default_factory=RankerRun)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    promote: bool = False
    """Point `production` at the new version."""
    json: Path | None = None
    """Also write card, rows and the paired gain to this file."""


def main(job: TrainRanker) -> None:
    store = Store()
    trained = train_ranker(job.run, job.launch, store)
    retriever = Row("retriever", 0, trained.result.retriever)
    ranker = Row(f"retriever + {job.run.ranker}", 0, trained.result.ranker)
    show_evaluation([retriever, ranker])
    gain = show_gain(ranker, retriever)
    if job.json:
        job.json.write_text(json.dumps({**to_json([retriever, ranker]), "gain": gain._asdict()}, indent=1))
    print(f"published {trained.bundle.reference}")
    if job.promote:
        store.promote(trained.bundle.manifest.name, trained.bundle.manifest.version)


if __name__ == "__main__":
    run_job(main, TrainRanker, __doc__)
