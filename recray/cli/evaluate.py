"""What a comparison of models asks for: ``jobs/evaluate.py`` parses it and does it."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from recray.cli.logged import EvaluateLogged
from recray.cli.outputs import output
from recray.config import ConfigError
from recray.data.events.choices import EventChoices
from recray.data.events.split_data import DataConfig
from recray.eval.metrics import check_ks


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Models, data, and the protocol that they share."""

    data: DataConfig = field(default_factory=DataConfig)
    """The same for all models: each is measured under the same card."""
    models: tuple[str, ...] = ("popularity", "item_knn", "two_tower")
    """Models to train and compare (`recray models`)."""
    seeds: int = 3
    """Runs of each model that depends on a seed."""
    ks: tuple[int, ...] = (10,)
    """List lengths."""
    strict: bool = False
    """Refuse data with a leak, before anything is trained."""
    json: Path | None = None
    """Also write card and rows to this file."""
    plot: Path = Path("evaluation.png")
    """Where the plot goes."""
    curves: Path | None = None
    """Also draw the learning curves of the models that have epochs, to this PNG."""
    beside: tuple[Path, ...] = ()
    """Finished runs of RecBole (jobs/run_recbole.py --json) for the same table."""

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
        for name in ("json", "plot", "curves"):
            if path := getattr(self, name):
                object.__setattr__(self, name, output(path))
        for path in filter(None, (self.json, self.plot, self.curves)):
            if not path.parent.is_dir():
                raise ConfigError(f"{path}: there is no folder {path.parent}")
        changed = [f.name for f in fields(EventChoices) if getattr(self.data, f.name) != f.default]
        if self.beside and changed:
            named = ", ".join(changed)
            raise ConfigError(f"beside: RecBole's runs know nothing of {named}: leave these or beside out")
