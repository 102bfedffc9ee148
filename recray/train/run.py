"""What a run is, and what its recipe does with it: the one life of everything that recray trains.

    open -> new -> fit (by every worker) -> restore -> measure -> draft -> a version in the store

A run is a value: a frozen dataclass with all that decides the outcome. A recipe is a family's way through
that life; ``pipelines.train`` walks it for all of them. Neither knows where the workers are.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from torch import nn

from recray import checkpoint
from recray.config import Config, ConfigError
from recray.schema import Learnt, ProtocolCard
from recray.store import Draft
from recray.train.context import Communicator, Context
from recray.train.loop import LoopConfig

Part = Literal["validation", "test"]


class DataChoice(Protocol):
    """Which data: what every run's ``data`` says at least."""

    @property
    def dataset(self) -> str:
        """A registered data set, or a path."""


class Run(Config, Protocol):
    """A frozen dataclass of settings that ``config.from_dict`` reads back."""

    @property
    def data(self) -> DataChoice: ...

    @property
    def seed(self) -> int: ...


def require_seed(seed: int) -> None:
    """Raises ConfigError for a seed that no generator takes."""
    if seed < 0:
        raise ConfigError(f"seed must not be negative, got {seed}")


class Measured(Protocol):
    """Metrics of a trained model."""

    @property
    def card(self) -> ProtocolCard | None:
        """What they were measured under; None where no protocol is needed to read them."""

    def means(self) -> dict[str, float]: ...


class Unmeasured:
    """Where nothing was held out, there is nothing to measure by."""

    card: None = None

    def means(self) -> dict[str, float]:
        return {}


class DataFacts(NamedTuple):
    """What is said of opened data: before a run, in its log, and of a version, in its manifest."""

    name: str
    hash: str
    text: str  # sizes, for a person
    until: str = ""  # ISO 8601: the newest event that was learnt from; empty where there is no calendar


R = TypeVar("R", bound=Run)
D = TypeVar("D")
M = TypeVar("M")


Presets: TypeAlias = Mapping[str, tuple[str, R]]
"""Name -> (one line about it, a complete run): the cases of which more is known than a size."""


@dataclass(frozen=True)
class Recipe(ABC, Generic[R, D, M]):
    """How one kind of model lives; instances are values, so that workers can be handed one."""

    name: str
    """What it is asked for by: jobs, tables of results, ``recray models``."""
    presets: Presets[R]
    summary: str
    """One line about it, with its paper."""
    distributed: ClassVar[bool] = True
    """Whether several workers do it faster than one."""
    ranks_catalogue: ClassVar[bool] = False
    """Whether it is a retriever: what tables of full rankings compare."""
    communicator: ClassVar[Communicator] = "torch"
    """What joins several workers."""

    @abstractmethod
    def default(self, dataset: str) -> R:
        """A run for any data: the model's own defaults at the size of the data, which is prepared if missing.

        Raises:
            ConfigError, DataError: there is no such data.
        """

    @abstractmethod
    def open(self, run: R) -> D:
        """The data of a run, prepared first where it is missing, and whether the run can be done on it.

        Raises:
            ConfigError, DataError: it cannot; before any worker starts.
        """

    @abstractmethod
    def facts(self, data: D) -> DataFacts: ...

    @abstractmethod
    def new(self, run: R, data: D, context: Context = Context()) -> M:  # noqa: B008 - frozen
        """The untrained model, as much of it as this worker holds; equal seeds give equal weights."""

    @abstractmethod
    def fit(self, run: R, data: D, model: M, context: Context) -> None:
        """Trains in place; called by every worker. Reports at least one checkpoint."""

    @abstractmethod
    def restore(self, run: R, data: D, folder: Path) -> M:
        """The model of a checkpoint, whole in this process, ready to be asked."""

    @abstractmethod
    def measure(self, run: R, data: D, model: M, part: Part = "test") -> Measured:
        """What the model reaches on a part that it has not learnt, with the card of how that was measured."""

    @abstractmethod
    def draft(self, run: R, data: D, model: M, measured: Measured) -> Draft:
        """What a version of it consists of.

        Raises:
            ConfigError: it is not made to be served.
        """

    def exact(self, run: R, data: D) -> R:
        """The run with everything that it builds on named exactly: what is kept in order to repeat it."""
        return run

    def loop(self, run: R) -> LoopConfig | None:
        """How the run goes over its data; None where the training loop has no part in it."""
        return None

    def draws(self, run: R) -> bool:
        """Whether another seed gives another model."""
        return self.loop(run) is not None

    def learns_before_test(self, run: R) -> bool:
        """Whether its protocol lets a model learn the validation part too, before it is measured."""
        return False

    def learns_before_serving(self, run: R) -> bool:
        """Whether what is served is to learn everything, once it was measured."""
        return False

    def again(self, run: R, epochs: int) -> R:
        """The run once more, as long as validation chose and with nothing to go by."""
        raise ConfigError(f"{self.name} is not fitted again")

    def continued(self, run: R) -> R | None:
        """The run once more, on from the weights that validation chose; None where a refit starts again."""
        return None

    def learning(self, run: R, data: D, learn: Learnt) -> D:
        """The same data, to learn more of it than the training part."""
        raise ConfigError(f"{self.name} is not fitted again")

    def work(
        self,
        run: R,
        context: Context,
        *,
        data: D | None = None,
        learn: Learnt = "training",
        start_from: Path | None = None,
    ) -> M:
        """All that one worker does; opens the data unless it is handed on, ready to be learnt."""
        context = replace(context, start_from=start_from)
        if data is None:
            data = self.open(run)
            data = data if learn == "training" else self.learning(run, data, learn)
        model = self.new(run, data, context)
        self.fit(run, data, model, context)
        return model


Net = TypeVar("Net", bound=nn.Module)


class TorchRecipe(Recipe[R, D, Net]):
    """A recipe whose model is a PyTorch module: its checkpoints are those of ``recray.checkpoint``."""

    def restore(self, run: R, data: D, folder: Path) -> Net:
        model = self.new(run, data)
        checkpoint.load_model(folder, model)
        return model.eval()


AnyRecipe: TypeAlias = Recipe[Any, Any, Any]
