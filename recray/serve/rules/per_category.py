"""A business rule: at most so many items of one category in a list."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from recray.arrays import Int64s
from recray.config import ConfigError
from recray.serve.state import RequestState, Stage
from recray.serve.versions import OpenedVersion


@dataclass(frozen=True, kw_only=True)
class PerCategoryConfig:
    """At most so many items of one category."""

    at_most: int = 0
    """Items of one category in a list; 0: any number."""
    column: str = "genres"
    """Column of the items that holds the category, or a list of them of which the first counts."""

    def __post_init__(self) -> None:
        if self.at_most < 0:
            raise ConfigError(f"per_category: at_most must not be negative, got {self.at_most}")

    def open(self, version: OpenedVersion) -> Stage | None:
        """
        Raises:
            ConfigError: the catalogue has no such column.
        """
        if not self.at_most:
            return None
        _, items = version.catalogue
        if self.column not in items.columns:
            raise ConfigError(
                f"per_category: {version.bundles.retriever.reference} has no column {self.column!r} of its "
                f"items; it has {', '.join(items.columns)}"
            )
        category = pl.col(self.column)
        if isinstance(items.schema[self.column], pl.List):
            category = category.list.first()
        codes = items.select(category.cast(pl.String).rank("dense").fill_null(0).cast(pl.Int64)).to_series()
        return AtMostPerCategory(codes.to_numpy(), self.at_most)


class AtMostPerCategory:
    """Leaves the best ``at_most`` items of each category; items without a category all stay.

    Args:
        categories_I: a number per category, 0 where an item has none.
    """

    def __init__(self, categories_I: Int64s, at_most: int) -> None:
        self._categories_I, self._at_most = categories_I, at_most

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``per_category``."""
        categories_S = self._categories_I[state.item_ids_S]
        by_category_S = np.argsort(categories_S, kind="stable")
        sorted_S = categories_S[by_category_S]
        place_S = np.empty_like(by_category_S)  # of each item among those of its category
        place_S[by_category_S] = np.arange(len(sorted_S)) - np.searchsorted(sorted_S, sorted_S)
        state = state.keep((place_S < self._at_most) | (categories_S == 0))
        state.clock.lap("per_category")
        return state
