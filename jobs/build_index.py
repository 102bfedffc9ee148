"""Give a published retriever another index, as a new version.

python jobs/build_index.py ml-100k-two_tower --index.kind exact
"""

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


def main(job: BuildIndex) -> None:
    bundle = reindex(job.retriever, job.version, job.index, Store())
    recall = {k: v for k, v in bundle.manifest.metrics.items() if k.startswith("index_recall")}
    print(f"published {bundle.reference}: {job.index.kind}, {recall}")


if __name__ == "__main__":
    run_job(main, BuildIndex, __doc__)
