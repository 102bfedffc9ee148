"""The data of a run: which data set, and which part of it is held out."""

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Literal, NamedTuple, Self

from recray.arrays import Bools, Float32s
from recray.batch import FeatureTables
from recray.config import ConfigError
from recray.data.events.choices import EventChoices, interpret
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare
from recray.data.events.side_features import encode_side_features
from recray.data.events.splits import Split, split_by_name
from recray.data.source import ABSOLUTE_TIMES
from recray.data.sources import absolute
from recray.schema import FeatureSchema, Learnt

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DataConfig(EventChoices):
    """Which data, which part of it is held out, and what its events mean."""

    dataset: str = "synthetic"
    """A registered data set (`recray datasets`), or the path of a CSV, Parquet, .inter or sequence file."""
    split: Literal["leave-one-out", "global-time", "random", "given", "all"] = "leave-one-out"
    """leave-one-out: last interaction of each user; global-time: after a date; random: a share of rows;
    given: the parts of a benchmark; all: nothing is held out."""
    k_core: int = 0
    """Keep users and items with at least this many interactions, repeatedly; 0 keeps all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k_core < 0:
            raise ConfigError(f"k_core must not be negative, got {self.k_core}")
        # Workers have working directories of their own.
        object.__setattr__(self, "dataset", absolute(self.dataset))


class SideFeatures(NamedTuple):
    """Side columns of users and items, encoded."""

    schema: FeatureSchema
    tables: FeatureTables


@dataclass(frozen=True)
class SplitData:
    """A data set and its split."""

    dataset: Dataset
    split: Split

    @cached_property
    def side(self) -> SideFeatures:
        """Encoded when first asked for, once."""
        return SideFeatures(*encode_side_features(self.dataset))

    @property
    def weights_N(self) -> Float32s | None:
        """How much each interaction counts in training; see ``Meaning``."""
        return self.split.weights_N

    @property
    def relevant_N(self) -> Bools | None:
        """Which interactions are to be found; see ``Meaning``."""
        return self.split.relevant_N

    def recency(self, asked: float) -> float:
        """A setting by which newer events count more; 0 where what is held out does not come later."""
        if asked and not self.split.in_time:
            _tell_off(asked, self.split.name, self.dataset.name)
        return asked if self.split.in_time else 0.0

    @property
    def bare_schema(self) -> FeatureSchema:
        """The catalogue, for models that know users and items by their ids alone."""
        return FeatureSchema(num_users=self.dataset.num_users, num_items=self.dataset.num_items)

    def learning(self, what: Learnt) -> Self:
        """The same data with more of it in the training part."""
        more = replace(self, split=self.split.learning(what))
        if "side" in vars(self):  # encoded already
            vars(more)["side"] = self.side
        return more

    def until(self) -> str:
        """When the newest event of the training part was, as ISO 8601; empty where there is no calendar."""
        is_absolute = self.dataset.manifest.options.get("times", ABSOLUTE_TIMES) == ABSOLUTE_TIMES
        newest = int(self.dataset.timestamps_N[self.split.train_N].max())
        return datetime.fromtimestamp(newest, UTC).isoformat() if is_absolute else ""

    def sizes(self) -> str:
        """Users, items, interactions and the parts of the split, for a person."""
        d, split = self.dataset, self.split
        parts = "/".join(
            f"{int(mask_N.sum()):,}" for mask_N in (split.train_N, split.validation_N, split.test_N)
        )
        counts = f"{d.num_users:,} users, {d.num_items:,} items, {len(d):,} interactions"
        asked = "" if split.relevant_N is None else f" ({split.relevance} to be found)"
        return f"{counts}; {split.name}{asked}: {parts}"


@cache
def _tell_off(asked: float, split: str, dataset: str) -> None:
    """Once in a process."""
    log.info("recency %g is off: by %s of %s what is held out does not come later", *(asked, split, dataset))


def open_split(data: DataConfig) -> SplitData:
    """The data set of a config, prepared first where it is missing.

    Raises:
        ConfigError: it has no such event types.
        DataError: its raw files are not at hand; says where to put them. Or nothing is to be found or learnt.
    """
    return split_as(load_or_prepare(data.dataset, k_core=data.k_core), data)


def split_as(dataset: Dataset, data: DataConfig) -> SplitData:
    """A data set that is at hand, as a config splits and understands it.

    Raises:
        ConfigError, DataError: as ``open_split``.
    """
    dataset, meaning = interpret(dataset, data)
    split = split_by_name(dataset, data.split, meaning.relevant_N)
    chosen = {name: getattr(data, name) for name in ("seen", "repeats", "known", "test_users")}
    split = replace(split, **meaning._asdict(), **chosen)
    return SplitData(dataset, split)
