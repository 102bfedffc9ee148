"""Give a published retriever another index, as a new version.

recray index ml-100k-two_tower --index.kind exact
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import tyro

from recray.cli.jobs import run_job
from recray.ops.ann import IndexConfig
from recray.pipelines.reindex import reindex
from recray.store import Store


@dataclass(frozen=True)
class BuildIndex:
    retriever: tyro.conf.Positional[str]
    """Bundle name, as `recray versions` lists it."""
    version: str = "latest"
    """A number, a name such as production, or latest."""
    index: IndexConfig = field(default_factory=IndexConfig)


def build(job: BuildIndex) -> None:
    bundle = reindex(job.retriever, job.version, job.index, Store())
    recall = {k: v for k, v in bundle.manifest.metrics.items() if k.startswith("index_recall")}
    print(f"published {bundle.reference}: {job.index.kind}, {recall}")


def main(args: Sequence[str]) -> int:
    return run_job("index", build, BuildIndex, __doc__, args)
