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
from typing import Any
from unittest import mock

import torch

from recray.bundles.ranker import load_ranker
from recray.config import override
from recray.data.events.examples import eval_examples
from recray.launch import launch
from recray.launch.semantic_ids import train_codebooks
from recray.launch.stages import train_retriever
from recray.ops.ann import IndexConfig
from recray.recipes import preset, ranking, recipe
from recray.recipes.clicks import LAMBDARANK_PRESETS, train_rows
from recray.recipes.dlrm_ranking import train_network
from recray.recipes.ranking import RankerRun, RankerTask
from recray.recipes.retrieval import prepared
from recray.recipes.semantic_ids import publish_semantic_ids
from recray.store import Store
from recray.train.context import Context, LaunchConfig, Progress

FILE = Path(__file__).with_name("losses.json")
STEPS = 20
QUERIES = 20
LOCAL = LaunchConfig(where="local")
BY_STEPS = ("two_tower", "ncf", "gat", "sasrec", "ss4rec", "s5", "mamba", "rqvae", "decoder", "dlrm")
BY_SCORES = ("popularity", "item_knn", "ideal")
RECIPES = (*BY_STEPS, "lambdarank", "ranker_dlrm", "ranker_gbdt", *BY_SCORES)


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
        if name in BY_SCORES:
            return self._scores(name)
        if name == "decoder":
            self._once("codes", self._publish_codes)
        if name.startswith("ranker"):
            self._once("retriever", self._publish_retriever)
            return self._ranker(name.removeprefix("ranker_"))
        if name == "lambdarank":
            run = override(LAMBDARANK_PRESETS["ml-1m"][1], {"data.dataset": "synthetic"})
            return losses(lambda context: train_rows(run, context))
        run = preset(name, "synthetic")
        return losses(lambda context: recipe(name).train(run, context))

    def _once(self, what: str, make: Callable[[], object]) -> None:
        if what not in self._made:
            make()
            self._made.add(what)

    def _publish_codes(self) -> None:
        run = override(preset("rqvae", "synthetic"), {"loop.epochs": 2})
        publish_semantic_ids(train_codebooks(run, LOCAL, self.store), self.store)

    def _publish_retriever(self) -> None:
        run = override(preset("two_tower", "synthetic"), {"loop.epochs": 1})
        train_retriever(run, LOCAL, IndexConfig(kind="exact"), self.store)

    def _ranker(self, kind: str) -> list[float]:
        run = override(RankerRun(), {"ranker": kind, "gbdt.rounds": STEPS, "holdout": 0.1, "loop.epochs": 1})
        run = override(run, {"loop.batch_size": 16})
        stages = ranking.open_two_stage(run, self.store)
        with tempfile.TemporaryDirectory() as folder:
            ranking.write_examples(run, stages, Path(folder))
            task = RankerTask(run, Path(folder), stages.data.dataset.num_items)
            if kind == "dlrm":
                return losses(lambda context: train_network(task, context))
            done = launch(ranking.train_trees, task, LOCAL, "golden")
            ranker: Any = load_ranker("gbdt", done.checkpoint / "ranker.ubj")
            return [value for values in ranker.curve.values() for value in values]

    def _scores(self, name: str) -> list[float]:
        run = preset(name, "synthetic")
        model: Any = recipe(name).train(run, Context())
        data = prepared(run.data)
        queries = eval_examples(data.dataset, data.split, "test")[0].queries.slice(0, QUERIES)
        scores_BI = model.score_items(queries).double()
        weights_I = torch.arange(
            scores_BI.shape[1], dtype=torch.float64
        ).sin()  # every item counts, each its own
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
