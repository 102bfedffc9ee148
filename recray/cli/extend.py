"""Publish a decoder again for a newer map of semantic ids that has further items: no training.

recray extend-decoder ml-100k-decoder --map-version latest
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from recray.cli.jobs import run_job
from recray.pipelines.extend_decoder import extend
from recray.store import Store


@dataclass(frozen=True)
class ExtendDecoder:
    decoder: tyro.conf.Positional[str]
    """Bundle name, as `recray versions` lists it."""
    version: str = "latest"
    """A number, a name such as production, or latest."""
    map_version: str = "latest"
    """Version of the decoder's map of semantic ids (recray semantic-ids --items)."""


def extend_decoder(job: ExtendDecoder) -> None:
    bundle = extend(job.decoder, job.version, job.map_version, Store())
    schema = bundle.manifest.schema
    print(f"published {bundle.reference}, for {getattr(schema, 'num_items', 0):,} items")


def main(args: Sequence[str]) -> int:
    return run_job("extend-decoder", extend_decoder, ExtendDecoder, __doc__, args)
