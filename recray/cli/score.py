"""Score the rows of a file by a published click model, into a Parquet file with a column `score`.

recray score clicks-dlrm new-rows.csv scored.parquet
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from recray.cli.jobs import run_job
from recray.pipelines.score import score_file
from recray.store import Store


@dataclass(frozen=True)
class Score:
    model: tyro.conf.Positional[str]
    """Bundle name, as `recray versions` lists it."""
    source: tyro.conf.Positional[Path]
    """CSV or Parquet; columns that the model does not read are kept."""
    target: tyro.conf.Positional[Path]
    """Parquet file to write."""
    version: str = "latest"
    """A number, a name such as production, or latest."""
    separator: str = ","
    """Of a CSV."""


def score(job: Score) -> None:
    bundle = Store().open(job.model, job.version)
    scored = score_file(bundle, job.source, job.target, job.separator)
    for column, count in scored.unknown.items():
        print(f"{column}: {count:,} values that training did not have")
    print(f"wrote {job.target}: {scored.rows:,} rows scored by {bundle.reference}")


def main(args: Sequence[str]) -> int:
    return run_job("score", score, Score, __doc__, args)
