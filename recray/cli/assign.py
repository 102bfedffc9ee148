"""Publish the semantic ids that a trained RQ-VAE gives to every item, and to further items.

recray semantic-ids amazon-beauty-rqvae
recray semantic-ids ml-100k-rqvae --items new_items.parquet
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from recray.bundles.codes import REPORT
from recray.cli.jobs import run_job
from recray.cli.show import show_codes
from recray.data.content.further_items import read_items
from recray.pipelines.semantic_ids import publish_semantic_ids
from recray.store import Store


@dataclass(frozen=True)
class AssignSemanticIds:
    rqvae: tyro.conf.Positional[str]
    """Bundle name, as `recray versions` lists it."""
    version: str = "latest"
    """A number, a name such as production, or latest."""
    items: Path | None = None
    """ALL items (.parquet, .csv, .tsv: raw_id, side columns) that the data set lacks, earlier ones first."""


def assign(job: AssignSemanticIds) -> None:
    store = Store()
    extra = read_items(job.items) if job.items else None
    bundle = publish_semantic_ids(store.open(job.rqvae, job.version), store, extra)
    show_codes(bundle.manifest.metrics)
    print(f"published {bundle.reference}; report: {bundle.path(REPORT)}")


def main(args: Sequence[str]) -> int:
    return run_job("semantic-ids", assign, AssignSemanticIds, __doc__, args)
