"""Compare models under one protocol: a table with intervals, a plot, and JSON.

python jobs/evaluate.py --dataset ml-100k --protocol leave-one-out --models popularity item_knn two_tower
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recray.cli.jobs import run_job
from recray.cli.show import show_evaluation
from recray.config import ConfigError
from recray.eval.compare import plot, to_json
from recray.peers.recbole import read_rows
from recray.pipelines.compare import compare_models


@dataclass(frozen=True)
class Evaluate:
    dataset: str = "synthetic"
    """A registered data set, or the path of a file (see jobs/prepare.py)."""
    protocol: Literal["leave-one-out", "global-time", "random"] = "leave-one-out"
    """How the data is split; every model is measured under the same card."""
    models: tuple[str, ...] = ("popularity", "item_knn", "two_tower")
    """Models to train and compare (`recray models`)."""
    seeds: int = 3
    """Runs of each model that depends on a seed."""
    ks: tuple[int, ...] = (10,)
    """List lengths."""
    json: Path | None = None
    """Also write card and rows to this file."""
    plot: Path = Path("evaluation.png")
    """Where the plot goes."""
    curves: Path | None = None
    """Also draw the learning curves of the models that have epochs, to this PNG."""
    beside: tuple[Path, ...] = ()
    """Finished runs of RecBole (jobs/run_recbole.py --json) for the same table."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds must be at least 1, got {self.seeds}")
        for path in filter(None, (self.json, self.plot, self.curves)):
            if not path.parent.is_dir():
                raise ConfigError(f"{path}: there is no folder {path.parent}")


def main(config: Evaluate) -> None:
    about = config.dataset, config.protocol, config.models, config.seeds, config.ks
    beside = read_rows(config.beside, config.dataset, config.protocol, config.ks[0])  # before any training
    rows = compare_models(*about, curves=config.curves) + beside
    if config.json:
        config.json.write_text(json.dumps(to_json(rows), indent=1))
    show_evaluation(rows, config.ks[0])
    plot(rows, config.plot)
    print("wrote", *(path for path in (config.plot, config.curves, config.json) if path and path.exists()))


if __name__ == "__main__":
    run_job(main, Evaluate, __doc__)
