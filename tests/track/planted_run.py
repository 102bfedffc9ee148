"""A program that trains, publishes, searches, then fails, with secrets all over: for test_recording."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from ray import tune

from recray.cli import guarded
from recray.config import override
from recray.launch import launch
from recray.pipelines.train import train
from recray.pipelines.tune.search import SearchConfig, search
from recray.pipelines.tune.spaces import Budget, Goal, Space
from recray.pipelines.tune.subject import RecipeSubject
from recray.recipes import RECIPES, run_for
from recray.schema import DataError
from recray.store import Store
from recray.track.console import setup_logging
from recray.train.context import Context, LaunchConfig
from tests.pipelines.tiny import tiny_events

EPOCHS = 3


@dataclass(frozen=True)
class Careless:
    """Settings that hold what none should."""

    dataset: str
    note: str


def fail(run: Careless, context: Context) -> None:
    context.report({"epoch": 1.0}, None)
    logging.getLogger("recray").info("reading %s with %s", run.dataset, run.note)
    raise DataError(f"{run.dataset} cannot be read with {run.note}")


def main(folder: Path, dataset: str, note: str) -> int:
    setup_logging()
    recipe = RECIPES["two_tower"]
    run = override(
        run_for(recipe, str(tiny_events(folder))),
        {"loop.epochs": EPOCHS, "refit": False, "model.dropout": 0.1},
    )
    train(recipe, run, LaunchConfig(where="local", run="tiny"), Store())
    space = Space(
        settings={"model.dropout": tune.uniform(0.0, 0.5)}, goal=Goal("ndcg@10"), budget=Budget(trials=2)
    )
    search(RecipeSubject(recipe), run, space, SearchConfig(), LaunchConfig(where="local", run="searched"))
    careless, here = Careless(dataset, note), LaunchConfig(where="local", run="careless")
    return guarded(lambda: print(launch(fail, careless, here, "careless")))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
