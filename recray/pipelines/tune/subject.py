"""What can be searched: a recipe's run, tried by its validation part and judged on its test part."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from recray.config import ConfigError
from recray.launch.runs import Task
from recray.launch.tasks import run_there
from recray.pipelines.train import fit, fit_again, own_needs, train
from recray.pipelines.tune.run_files import named_run
from recray.pipelines.tune.spaces import Goal
from recray.store import Store
from recray.train.context import Context, LaunchConfig
from recray.train.run import AnyRecipe, Measured, Run

log = logging.getLogger(__name__)


R = TypeVar("R", bound=Run)


class Subject(Protocol[R]):
    """Something with settings to search, and how one setting of them fares."""

    @property
    def name(self) -> str: ...

    @property
    def communicator(self) -> Literal["torch", "xgboost"]:
        """What joins the workers of a trial."""

    @property
    def presets(self) -> list[str]: ...

    def run(self, first: str) -> R:
        """The run that a preset, a data set, a file or a run file names.

        Raises:
            ConfigError, DataError: it is none of them.
        """

    def open(self, run: R) -> None:
        """Has the data prepared, before trials are.

        Raises:
            ConfigError, DataError: the run cannot be done.
        """

    def epochs(self, run: R) -> int:
        """Of a trial, at most; 1: it reports once, at its end."""

    def task(self, goal: Goal) -> Task[R]:
        """A trial: reports the goal's metric, of the validation part alone."""

    def measure(self, run: R, where: LaunchConfig) -> Measured:
        """Trained as ``where.run``, if it is not yet, and measured on the test part."""

    def publish(self, run: R, where: LaunchConfig, store: Store, beside: dict[str, bytes]) -> list[str]:
        """The same run as versions in the store.

        Args:
            beside: files that each version carries, by name.

        Returns:
            Their references.
        """


@dataclass(frozen=True)
class RecipeTrial:
    """A recipe's work; what does not validate as it trains is measured once, at its end."""

    recipe: AnyRecipe
    goal: Goal

    def __call__(self, run: Run, context: Context) -> None:
        metric, reported = self.goal.metric, set[str]()

        def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
            reported.update(metrics)
            context.report(metrics, checkpoint)

        data = self.recipe.open(run)
        model = self.recipe.work(run, replace(context, report=report), data=data)
        if metric in reported or (context.resume_from and self.recipe.loop(run)):
            return
        if not self.recipe.ranks_catalogue or self.recipe.loop(run):  # others may have learnt what validates
            raise ConfigError(f"{self.recipe.name} reports no {metric!r} to go by, it has {sorted(reported)}")
        found = self.recipe.measure(run, data, model, "validation").means()
        context.report({"epoch": 1.0, metric: found[metric]}, None)


@dataclass(frozen=True)
class RecipeSubject:
    """Anything that ``recray.recipes`` holds."""

    recipe: AnyRecipe

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def communicator(self) -> Literal["torch", "xgboost"]:
        return self.recipe.communicator

    @property
    def presets(self) -> list[str]:
        return list(self.recipe.presets)

    def run(self, first: str) -> Run:
        return named_run(self.recipe, first)

    def open(self, run: Run) -> None:
        log.info("%s: %s", *self.recipe.facts(self.recipe.open(run))[::2])

    def epochs(self, run: Run) -> int:
        loop = self.recipe.loop(run)
        return loop.last_epoch if loop else 1

    def task(self, goal: Goal) -> Task[Any]:
        return RecipeTrial(self.recipe, goal)

    def measure(self, run: Run, where: LaunchConfig) -> Measured:
        work = partial(_measured, self.recipe, run, where)
        return run_there(work, own_needs(self.recipe, where), where.run)

    def publish(self, run: Run, where: LaunchConfig, store: Store, beside: dict[str, bytes]) -> list[str]:
        return [str(train(self.recipe, run, where, store, beside=beside).bundle.reference)]


def _measured(recipe: AnyRecipe, run: Run, where: LaunchConfig) -> Measured:
    fitted = fit(recipe, run, where)
    if recipe.learns_before_test(run):
        fitted = fit_again(recipe, run, where, fitted, "before test")
    measured: Measured = recipe.measure(run, fitted.data, fitted.model)
    return measured
