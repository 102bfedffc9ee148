"""Commands of the loop: train again on what was logged, and where a list came from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from recray.cli.listing import Listing

if TYPE_CHECKING:
    from recray.pipelines.retrain import RetrainConfig, Round
    from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class Retrain:
    """Train what production serves again, with what was logged since; jobs/retrain.py has every option."""

    name: tyro.conf.Positional[str]
    """The application's bundle, as `recray versions` lists it."""
    then: Literal["candidate", "canary", "promote"] = "candidate"
    """What becomes of it: a name, a share of the users, or production."""
    attribution: str = "1h"
    """After an answer, within which an outcome counts for it."""
    every: str = ""
    """Again and again, such as 1d, until it is stopped; what was missed is done once."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.pipelines.feedback import FeedbackConfig
        from recray.pipelines.retrain import RetrainConfig
        from recray.train.context import LaunchConfig

        config = RetrainConfig(feedback=FeedbackConfig(attribution=self.attribution), then=self.then)
        done = run_rounds(self.name, config, LaunchConfig(where="local"), self.every)
        rows = [{"step": step.name, "what": step.text} for step in done.steps]
        return Listing(f"retrained {self.name}", rows)


@dataclass(frozen=True)
class Trace:
    """Where a list that was shown came from: versions, data, rows of the log, run and code."""

    name: tyro.conf.Positional[str]
    """The application's bundle."""
    request: tyro.conf.Positional[str]
    """The id of the answer, as it was sent with it."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.pipelines.lineage import trace
        from recray.store import Store

        rows = [found._asdict() for found in trace(Store(), self.name, self.request)]
        return Listing(
            f"answer {self.request}", rows, ("role", "version", "data", "data_hash", "feedback", "code")
        )


def run_rounds(name: str, config: "RetrainConfig", where: "LaunchConfig", every: str) -> "Round":
    """One round, or one after another for good.

    Raises:
        DataError: the round ended at a step; on a schedule that is logged, and the next one comes.
    """
    from recray.eval.ages import seconds
    from recray.pipelines.retrain import retrain, rounds_dir
    from recray.pipelines.schedule import run_every
    from recray.schema import DataError
    from recray.store import Store

    if every:
        run_every(
            seconds(every),
            rounds_dir(name) / "schedule.json",
            lambda: retrain(name, config, where, Store()),
        )
    done = retrain(name, config, where, Store()).round
    if done.failed:
        raise DataError(f"{name} stays as it is: {done.failed.name}: {done.failed.text} ({done.file})")
    return done
