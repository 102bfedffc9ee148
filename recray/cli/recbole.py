"""Train a model of RecBole in its own environment and measure it like every model here.

recray recbole ml-100k --model SASRec --settings stopping_step=5 --json sasrec.json
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from recray.cli.jobs import run_on_data
from recray.cli.outputs import output
from recray.cli.show import show_evaluation
from recray.config import ConfigError
from recray.folders import write_whole
from recray.peers.recbole import RecBoleResult, RecBoleRun, train_recbole


@dataclass(frozen=True)
class RunRecBole:
    run: Annotated[RecBoleRun, tyro.conf.arg(name="")] = field(default_factory=RecBoleRun)
    json: Path | None = None
    """Also write card, metrics and the history of the epochs to this file, after each best epoch."""

    def __post_init__(self) -> None:
        if self.json:
            object.__setattr__(self, "json", output(self.json))
        if self.json and not self.json.parent.is_dir():
            raise ConfigError(f"{self.json}: there is no folder {self.json.parent}")


def run_recbole(config: RunRecBole) -> None:
    def save(result: RecBoleResult) -> None:
        if config.json:
            write_whole(config.json, json.dumps(result.to_json(), indent=1).encode())

    result = train_recbole(config.run, save)
    show_evaluation([result.row()])
    print(f"best epoch {result.best_epoch} of {len(result.history)}; RecBole's own: {result.recbole_test}")


def main(args: Sequence[str]) -> int:
    return run_on_data("recbole", run_recbole, RunRecBole, __doc__, args)
