"""What the result files hold, and how figures of them are written in a page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

RESULTS = Path(__file__).parent / "results"


def result(name: str) -> Any:
    """``results/<name>.json``."""
    return json.loads((RESULTS / f"{name}.json").read_text())


class Evaluated:
    """What ``recray evaluate --json`` wrote: a row for each model and seed."""

    def __init__(self, name: str) -> None:
        self.rows: list[dict[str, Any]] = result(name)["rows"]

    def seeds(self, model: str, metric: str = "ndcg@10") -> list[float]:
        """The metric of each seed.

        Raises:
            ValueError: the file does not have the model.
        """
        if not (found := [row[metric]["mean"] for row in self.rows if row["model"] == model]):
            raise ValueError(f"no {model!r}, there are {sorted({row['model'] for row in self.rows})}")
        return found

    def mean(self, model: str, metric: str = "ndcg@10") -> float:
        return fmean(self.seeds(model, metric))

    def gain(self, model: str, over: str, metric: str = "ndcg@10") -> float:
        return self.mean(model, metric) - self.mean(over, metric)

    def interval(self, model: str, metric: str = "ndcg@10") -> dict[str, float]:
        """Over users; of a model that has one seed.

        Raises:
            ValueError: it has more, whose common interval the file does not hold.
        """
        [row] = [row for row in self.rows if row["model"] == model]
        found: dict[str, float] = row[metric]
        return found


def bounds(found: Mapping[str, float], sign: str = "", decimals: int = 4) -> str:
    """``[low, high]``."""
    return f"[{found['low']:{sign}.{decimals}f}, {found['high']:{sign}.{decimals}f}]"


def with_bounds(found: Mapping[str, float], sign: str = "") -> str:
    """``mean [low, high]``."""
    return f"{found['mean']:{sign}.4f} {bounds(found, sign)}"


def of_seeds(values: Sequence[float]) -> str:
    """``mean (three seeds: lowest to highest)``."""
    words = {2: "two", 3: "three"}
    return f"{fmean(values):.4f} ({words[len(values)]} seeds {min(values):.4f} to {max(values):.4f})"


def percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:.{decimals}f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|" for line in lines)
