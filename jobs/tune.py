"""Search hyperparameters with Ray Tune; validation decides, the test part is not looked at.

python jobs/tune.py ml-100k --model two_tower --samples 20
"""

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from recray.cli.jobs import run_on_data
from recray.cli.listing import Listing, render
from recray.config import override
from recray.launch.ray_tune import search
from recray.recipes import RECIPES, run_for
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class Tune:
    model: str = "two_tower"
    """A model with a file in tune_spaces/."""
    dataset: Annotated[str, tyro.conf.arg(name="data.dataset")] = "synthetic"
    """A registered data set, or the path of a file."""
    samples: int = 20
    """Settings to try."""
    epochs: int = 50
    """Epochs of a trial, at most."""
    launch: LaunchConfig = field(default_factory=LaunchConfig)


def main(config: Tune) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    space = importlib.import_module(f"tune_spaces.{config.model}")
    recipe = RECIPES[config.model]
    run = override(run_for(recipe, config.dataset), {"loop.epochs": config.epochs})
    trials = search(
        recipe.work,
        run,
        space.SPACE,
        space.GOAL,
        config.launch,
        title=f"{config.model}-{Path(config.dataset).stem}",
        num_samples=config.samples,
        max_epochs=config.epochs,
    )
    rows = [{space.GOAL: round(t.score, 4), "epochs": t.epoch, **t.changes} for t in trials]
    render(Listing(f"{len(rows)} trials, best first", rows), as_json=False)
    best = " ".join(f"--{path} {value}" for path, value in trials[0].changes.items())
    print(f"train the best with: python jobs/train_{config.model}.py {config.dataset} {best}")


if __name__ == "__main__":
    run_on_data(main, Tune, __doc__)
