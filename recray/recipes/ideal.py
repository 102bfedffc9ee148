"""The planted truth of generated data, as a model in a table: the best that anybody could do."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from recray.config import ConfigError
from recray.data.events.ideal import IdealAfterWaits, IdealRanker
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.eval.evaluate import Evaluation
from recray.recipes.retriever import evaluate_retriever
from recray.store import Draft
from recray.train.context import Context
from recray.train.run import DataFacts, Measured, Part, Recipe


@dataclass(frozen=True, kw_only=True)
class IdealRun:
    """Nothing to train: the truth that the synthetic data was made from."""

    data: DataConfig = field(default_factory=DataConfig)
    clock: bool = True
    """Of synthetic-waits: know how long ago the last event was; without, the best of who does not."""
    seed: int = 0
    """Unused: the truth is what it is."""


Ideal: TypeAlias = IdealRanker | IdealAfterWaits


class IdealRecipe(Recipe[IdealRun, SplitData, Ideal]):
    """Reveals what the generator planted; raises DataError on data without a planted truth."""

    ranks_catalogue = True
    distributed = False

    def default(self, dataset: str) -> IdealRun:
        return IdealRun(data=DataConfig(dataset=dataset))

    def open(self, run: IdealRun) -> SplitData:
        return open_split(run.data)

    def facts(self, data: SplitData) -> DataFacts:
        return DataFacts(data.dataset.name, data.dataset.hash, data.sizes())

    def new(self, run: IdealRun, data: SplitData, context: Context = Context()) -> Ideal:  # noqa: B008
        if data.dataset.manifest.source == "synthetic-waits":
            return IdealAfterWaits(data.dataset, blind=not run.clock)
        times_N = data.dataset.timestamps_N[data.split.test_N]
        span_s = int(times_N[-1] - times_N[0]) if run.data.split == "global-time" else 0
        return IdealRanker(data.dataset, span_s)

    def fit(self, run: IdealRun, data: SplitData, model: Ideal, context: Context) -> None:
        """It is known already."""

    def restore(self, run: IdealRun, data: SplitData, folder: Path) -> Ideal:
        return self.new(run, data)

    def measure(self, run: IdealRun, data: SplitData, model: Ideal, part: Part = "test") -> Evaluation:
        return evaluate_retriever(model, data, part)

    def draft(self, run: IdealRun, data: SplitData, model: Ideal, measured: Measured) -> Draft:
        raise ConfigError("the planted truth is to be compared with (`recray evaluate`), not to be served")


IDEAL = IdealRecipe(
    "ideal", {"synthetic": ("the planted truth", IdealRun())}, "the truth that generated data was made from"
)
