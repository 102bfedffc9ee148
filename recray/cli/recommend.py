"""Lists for all users, or those of a file, by the stages of a server, into a folder of Parquet files.

recray recommend shop-ranker lists/
recray recommend shop-ranker lists/ --users vip.csv --k 50 --launch.workers 8
recray recommend shop-sasrec alike/ --similar   # for every item those that resemble it
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import polars as pl
import tyro

from recray.cli.jobs import run_job
from recray.cli.outputs import output
from recray.pipelines.recommend import BatchConfig, recommend_all
from recray.schema import DataError
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class Recommend:
    application: tyro.conf.Positional[str]
    """Bundle: a ranker (brings its retriever along), a retriever or a decoder."""
    folder: tyro.conf.Positional[Path]
    """Where the lists go; the same command goes on where it was stopped."""
    config: Annotated[BatchConfig, tyro.conf.arg(name="")] = field(default_factory=BatchConfig)
    users: Path | None = None
    """CSV or Parquet whose first column has the users' ids; absent: all that the version knows."""
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    """Where; the workers share the users."""


def recommend(job: Recommend) -> None:
    folder, users = output(job.folder), _users(job.users) if job.users else None
    done = recommend_all(job.application, job.config, folder, Store(), job.launch, users)
    rate = f", {done.new / done.seconds:,.0f} a second" if done.new else ""
    print(f"{done.lists:,} lists in {folder}: {done.new:,} new ones in {done.seconds:.1f} s{rate}")


def _users(file: Path) -> list[str]:
    try:
        table = pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(file, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"users {file}: {error}") from error
    return table.to_series(0).drop_nulls().cast(pl.String).to_list()


def main(args: Sequence[str]) -> int:
    return run_job("recommend", recommend, Recommend, __doc__, args)
