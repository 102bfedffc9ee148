"""Compare models under one protocol: a table with intervals, a plot, and JSON.

recray evaluate ml-100k --data.split leave-one-out --models popularity item_knn two_tower
recray evaluate shop.csv --models ease "sasrec?model.dim=128&optim.lr=0.001" shop-sasrec:3
recray evaluate --logged ml-100k-ranker   # its candidate beside production, by what it logged
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from recray.api.comparison import Comparison
from recray.cli.jobs import run_on_data
from recray.cli.logged import EvaluateLogged, evaluate_logged
from recray.cli.outputs import output
from recray.cli.show import show_evaluation
from recray.cli.terminal import Terminal
from recray.config import ConfigError
from recray.data.events.choices import EventChoices
from recray.data.events.split_data import DataConfig, open_split
from recray.eval.compare import Row, plot, to_json
from recray.eval.metrics import check_ks
from recray.peers.recbole import read_rows
from recray.pipelines.compare import HERE, compare_models
from recray.pipelines.comparison_page import render
from recray.train.context import LaunchConfig


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Models, data, and the protocol that they share."""

    data: DataConfig = field(default_factory=DataConfig)
    """The same for all models: each is measured under the same card."""
    models: tuple[str, ...] = ("popularity", "item_knn", "ease", "two_tower")
    """Models to train and compare (`recray models`), also with settings (model?name=value&name=value), and
    versions that are published (NAME:VERSION)."""
    seeds: int = 3
    """Runs of each model that depends on a seed."""
    ks: tuple[int, ...] = (10,)
    """List lengths."""
    strict: bool = False
    """Refuse data with a leak, before anything is trained."""
    launch: LaunchConfig = HERE
    """--launch.where ray: models and seeds are trained side by side, each as a Ray task with what one worker
    takes."""
    json: Path | None = None
    """Also write card and rows to this file."""
    plot: Path = Path("evaluation.png")
    """Where the plot goes."""
    page: Path = Path("evaluation.html")
    """Where the page goes: who is better, for which users, and how sure that is."""
    curves: Path | None = None
    """Also draw the learning curves of the models that have epochs, to this PNG."""
    beside: tuple[Path, ...] = ()
    """Finished runs of RecBole (recray recbole --json) for the same table."""

    logged: str = ""
    """An application: instead, its candidate beside production by the lists that it drew and logged."""
    judged: EvaluateLogged = field(default_factory=EvaluateLogged)
    """Of --logged (docs/off_policy.md)."""

    def __post_init__(self) -> None:
        check_ks(self.ks)
        if self.data.split == "all":
            raise ConfigError(
                "data.split all holds nothing out, so there is nothing to measure: choose another"
            )
        if self.seeds < 1:
            raise ConfigError(f"seeds must be at least 1, got {self.seeds}")
        for name in ("json", "plot", "page", "curves"):
            if path := getattr(self, name):
                object.__setattr__(self, name, output(path))
        for path in filter(None, (self.json, self.plot, self.page, self.curves)):
            if not path.parent.is_dir():
                raise ConfigError(f"{path}: there is no folder {path.parent}")
        changed = [f.name for f in fields(EventChoices) if getattr(self.data, f.name) != f.default]
        if self.beside and changed:
            named = ", ".join(changed)
            raise ConfigError(f"beside: RecBole's runs know nothing of {named}: leave these or beside out")


def evaluate(config: Evaluate) -> None:
    if config.logged:
        evaluate_logged(config.logged, config.judged, config.json)
        return
    data = config.data
    beside = read_rows(config.beside, data.dataset, data.split, config.ks[0])  # before any training
    asked = data, config.models, config.seeds, config.ks, config.curves
    rows = compare_models(*asked, strict=config.strict, launch=config.launch)
    rows += beside
    if config.json:
        config.json.write_text(json.dumps(to_json(rows), indent=1))
    show_evaluation(rows)
    if not beside:  # RecBole's runs have no value for each user
        _told_apart(rows, config)
    plot(rows, config.plot)
    written = (config.page, config.plot, config.curves, config.json)
    print("wrote", *(path for path in written if path and path.exists()))


def _told_apart(rows: Sequence[Row], config: Evaluate) -> None:
    found = Comparison(tuple(rows), f"ndcg@{config.ks[0]}")
    if len({row.model for row in rows}) > 1:
        *_, differences = found.shown()
        Terminal().print(differences)
    config.page.write_text(render(rows, found.differences, open_split(config.data), found.metric))


def main(args: Sequence[str]) -> int:
    return run_on_data("evaluate", evaluate, Evaluate, __doc__, args)
