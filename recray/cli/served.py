"""Measure what an application really shows: its stages, rules, diversity and second source, on a split.

recray evaluate-served ml-100k --service.rules.diversity.strength 0.2 --version latest
recray evaluate-served ml-100k --version latest --age 7d   # of a log of a week ago
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from recray.bundles.naming import bundle_name
from recray.cli.jobs import run_on_data
from recray.cli.show import show_evaluation, show_gain
from recray.data.events.split_data import DataConfig, open_split
from recray.eval.ages import seconds
from recray.eval.compare import Row
from recray.pipelines.two_stage import measure_served
from recray.serve.place.config import ServiceConfig


@dataclass(frozen=True)
class EvaluateServed:
    data: DataConfig = field(default_factory=DataConfig)
    service: ServiceConfig = field(default_factory=lambda: ServiceConfig(application=""))
    """Without service.application: the bundle "<dataset>-ranker"."""
    version: str = ""
    """A number, a name, or latest; empty: the version that service.name points at."""
    part: Literal["validation", "test"] = "test"
    """Choose options on validation (a retriever or decoder alone); report on test."""
    k: int = 10
    """Length of the list."""
    age: str = "0s"
    """Asked so long after the newest event that is known, as when a log grows old: 1h, 7d, 1y."""

    def __post_init__(self) -> None:
        seconds(self.age)


def evaluate_served(config: EvaluateServed) -> None:
    data = open_split(config.data)
    application = config.service.application or bundle_name(data.dataset.name, "ranker")
    result = measure_served(
        replace(config.service, application=application),
        data.dataset,
        data.split,
        target=config.part,
        version=config.version or None,
        ks=(config.k,),
        age_s=seconds(config.age),
    )
    first, served = Row("first stage", 0, result.first_stage), Row("served", 0, result.served)
    show_evaluation([first, served])
    print(f"served: {result.served.card.served}")
    show_gain(served, first, f"ndcg@{config.k}")


def main(args: Sequence[str]) -> int:
    return run_on_data("evaluate-served", evaluate_served, EvaluateServed, __doc__, args)
