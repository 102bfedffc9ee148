"""Train GAT and the two-tower on one graph, and measure both by links and by ranking, part by part.

recray compare-links ml-100k --data.split random
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from recray.cli.jobs import run_on_data
from recray.cli.show import show_evaluation, show_parts
from recray.config import override
from recray.contract import VectorRetriever
from recray.data.events.split_data import DataConfig
from recray.eval.compare import Row
from recray.pipelines.train import fit
from recray.recipes import RECIPES, run_for
from recray.recipes.graph import measure_parts
from recray.recipes.retriever import evaluate_retriever
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class CompareLinks:
    data: DataConfig = field(default_factory=DataConfig)
    models: tuple[str, ...] = ("gat", "two_tower")
    """Retrievers whose vectors depend on the user's id."""
    seed: int = 0
    launch: LaunchConfig = field(default_factory=LaunchConfig)


def compare_links(job: CompareLinks) -> None:
    rows = []
    for name in job.models:
        run = run_for(RECIPES[name], job.data.dataset)
        changed = {"data": job.data, "seed": job.seed}
        fitted = fit(RECIPES[name], override(run, changed), job.launch)
        assert isinstance(fitted.model, VectorRetriever), f"{name} has no vectors"
        show_parts(f"{name}: links and ranking", measure_parts(fitted.model, fitted.data))
        rows.append(Row(name, job.seed, evaluate_retriever(fitted.model, fitted.data)))
    show_evaluation(rows)


def main(args: Sequence[str]) -> int:
    return run_on_data("compare-links", compare_links, CompareLinks, __doc__, args)
