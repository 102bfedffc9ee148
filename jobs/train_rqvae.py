"""Train an RQ-VAE on item content and publish it; jobs/assign_semantic_ids.py makes the codes.

python jobs/train_rqvae.py amazon-beauty --launch.where local --model.quantizer.estimator rotation
"""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from recray.cli.jobs import run_preset_job
from recray.cli.show import show_codes
from recray.launch.semantic_ids import train_codebooks
from recray.recipes.semantic_ids import RQVAE_PRESETS, RQVAERun
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class TrainRQVAE:
    """A run, and where it happens."""

    run: Annotated[RQVAERun, tyro.conf.arg(name="")] = field(default_factory=RQVAERun)
    launch: LaunchConfig = field(default_factory=LaunchConfig)


def main(job: TrainRQVAE) -> None:
    bundle = train_codebooks(job.run, job.launch, Store())
    show_codes(bundle.manifest.metrics)
    print(f"published {bundle.reference}")


if __name__ == "__main__":
    presets = {name: (text, TrainRQVAE(run=run)) for name, (text, run) in RQVAE_PRESETS.items()}
    run_preset_job(main, presets, __doc__)
