"""Golden losses: what every recipe does in its first twenty steps on generated data, as numbers.

``python -m tests.golden.collect`` writes ``losses.json`` anew; whoever does it says in the commit why the
numbers moved. A refactor moves none of them. Whatever does not train by steps is held by what it
says of a few queries (counters, the planted truth) or by the NDCG of each round (trees).
"""

import json
import math
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

from recray.config import override
from recray.data.events.examples import eval_examples
from recray.pipelines.semantic_ids import publish_semantic_ids
from recray.pipelines.train import fit, train
from recray.recipes import RECIPES, run_for
from recray.store import Store
from recray.train.context import Context, LaunchConfig, Progress
from recray.train.run import AnyRecipe, Run

FILE = Path(__file__).with_name("losses.json")
STEPS = 20
QUERIES = 20
LOCAL = LaunchConfig(where="local")
BY_SCORES = ("popularity", "item_knn", "ease", "slim", "ials", "ideal")


class _EnoughError(Exception):
    """The steps asked for are done."""


def losses(train: Callable[[Context], object]) -> list[float]:
    """The loss of each of the first ``STEPS`` steps."""
    found: list[float] = []

    def record(progress: Progress) -> None:
        found.append(progress.loss)
        if len(found) == STEPS:
            raise _EnoughError

    with mock.patch("recray.train.loop.PROGRESS_EVERY_S", -1.0):
        try:
            train(Context(progress=record))
        except _EnoughError:
            return found
    raise AssertionError(f"the run ended after {len(found)} of {STEPS} steps")


class World:
    """Generated data and, made when first asked for, what later stages stand on."""

    def __init__(self) -> None:
        self.store = Store()
        self._made: set[str] = set()

    def numbers(self, name: str) -> list[float]:
        """The golden numbers of a recipe."""
        recipe = RECIPES[name]
        if name in BY_SCORES:
            return self._scores(recipe, self._run(recipe))
        if name == "decoder":
            self._once("codes", self._publish_codes)
        if name.endswith("_ranker"):
            self._once("retriever", self._publish_retriever)
        run = self._run(recipe)
        if name == "gbdt_ranker":
            forest = fit(recipe, run, LOCAL).model
            return [float(value) for values in forest.ranker.curve.values() for value in values]
        return losses(lambda context: recipe.work(run, context))

    def _run(self, recipe: AnyRecipe) -> Run:
        if recipe.name == "lambdarank":
            lists: Run = override(recipe.presets["ml-1m"][1], {"data.dataset": "synthetic"})
            return lists
        smaller: dict[str, dict[str, object]] = {
            "ials": {"model.iterations": 2},
            "gbdt_ranker": {"model.rounds": STEPS, "holdout": 0.1},
            "dlrm_ranker": {"loop.epochs": 1, "loop.batch_size": 16},
        }
        run: Run = override(run_for(recipe, "synthetic"), smaller.get(recipe.name, {}))
        return run

    def _once(self, what: str, make: Callable[[], object]) -> None:
        if what not in self._made:
            make()
            self._made.add(what)

    def _publish_codes(self) -> None:
        run = override(run_for(RECIPES["rqvae"], "synthetic"), {"loop.epochs": 2})
        publish_semantic_ids(train(RECIPES["rqvae"], run, LOCAL, self.store).bundle, self.store)

    def _publish_retriever(self) -> None:
        changes = {"loop.epochs": 1, "index.kind": "exact"}
        train(
            RECIPES["two_tower"],
            override(run_for(RECIPES["two_tower"], "synthetic"), changes),
            LOCAL,
            self.store,
        )

    def _scores(self, recipe: AnyRecipe, run: Run) -> list[float]:
        data = recipe.open(run)
        model = recipe.work(run, Context(), data=data)
        queries = eval_examples(data.dataset, data.split, "test")[0].queries.slice(0, QUERIES)
        scores_BI = model.score_items(queries).double()
        weights_I = torch.arange(scores_BI.shape[1], dtype=torch.float64).sin()  # each item its own
        return [float(value) for value in scores_BI @ weights_I]


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are then added in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def machine() -> str:
    """What decides the last bits: the processor's kind, its vector instructions, PyTorch's version."""
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()}, {_processor()}, {vectors}, torch {torch.__version__}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, RECRAY_HOME=home), one_thread():
        world = World()
        found = {name: world.numbers(name) for name in RECIPES}
    assert all(math.isfinite(value) for values in found.values() for value in values)
    FILE.write_text(json.dumps({"machine": machine(), "losses": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
