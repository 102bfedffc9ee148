"""Retrievers whose vectors of ids may be cut over the workers."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from torch import nn

from recray.config import override
from recray.data.events.split_data import SplitData
from recray.models.id_tables import ShardedTable, Tables, TablesConfig
from recray.ops.embedding_bags import Placement
from recray.recipes.retriever import GradientRecipe, GradientRun, StepsRun
from recray.train.context import Context
from recray.train.refit import going_on

log = logging.getLogger(__name__)
MANY_ROWS = 100_000  # from where moving all of them in every step takes longer than the step
SHARDED = TablesConfig(kind="sharded")


def tables_for(rows: int) -> TablesConfig:
    """Whole tables where they are small: what each step moves then costs nothing beside its batch."""
    return SHARDED if rows > MANY_ROWS else TablesConfig()


@dataclass(frozen=True, kw_only=True)
class TablesRun(GradientRun):
    """What the run of such a retriever says."""

    tables: TablesConfig = field(default_factory=TablesConfig)


class HasTables(StepsRun, Protocol):
    """A ``TablesRun`` with a model of its own."""

    @property
    def tables(self) -> TablesConfig: ...


T = TypeVar("T", bound=HasTables)


class TablesRecipe(GradientRecipe[T, SplitData]):
    """Every worker makes its share of the tables; who measures and publishes has all of them."""

    def parts(self, run: T, context: Context) -> tuple[object, ...]:
        placement = Placement(context.rank, context.world_size, context.device)
        return (Tables(run.tables, placement, run.seed),)

    def restore(self, run: T, data: SplitData, folder: Path) -> nn.Module:
        """Whole in this process, whatever it was trained on: with the plain tables."""
        return super().restore(override(run, {"tables.embedding.backend": "torch"}), data, folder)

    def continued(self, run: T) -> T | None:
        return going_on(run, {"tables.embedding.lr": run.tables.embedding.lr})

    def fit(self, run: T, data: SplitData, model: nn.Module, context: Context) -> None:
        if context.rank == 0:
            for table in model.modules():
                if isinstance(table, ShardedTable):
                    log.info(table.describe())
        super().fit(run, data, model, context)
