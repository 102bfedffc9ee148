"""Prepare a data set: raw files -> an immutable folder with a quality report.

python jobs/prepare.py ml-1m
"""

from dataclasses import dataclass

import tyro

from recray.cli.jobs import run_job
from recray.data.prepare import ensure


@dataclass(frozen=True)
class Prepare:
    dataset: tyro.conf.Positional[str]
    """A registered data set (`recray datasets`), or the path of a CSV, Parquet, .inter or sequence file."""
    k_core: int = 0
    """Keep users and items with at least this many interactions, repeatedly; 0 keeps all."""


def main(config: Prepare) -> None:
    dataset = ensure(config.dataset, k_core=config.k_core)
    print(
        f"{dataset.name}: {dataset.num_users:,} users, {dataset.num_items:,} items, "
        f"{len(dataset):,} interactions in {dataset.folder}"
    )
    print(f"quality report: {dataset.folder / 'quality.html'}")


if __name__ == "__main__":
    run_job(main, Prepare, __doc__)
