"""A rule: what cannot be had is not shown."""

from dataclasses import dataclass

import numpy as np

from recray.arrays import Bools
from recray.config import ConfigError
from recray.features.columns import AVAILABILITY, availability
from recray.serve.stages.state import RequestState, Stage
from recray.serve.versions import OpenedVersion


@dataclass(frozen=True, kw_only=True)
class AvailableConfig:
    """Items that are not available are never served; where the catalogue says so, this is on by default."""

    enforced: bool = True
    """Leave out items that are not available; those of which nothing is said stay."""
    column: str = ""
    """Column of the items, Boolean or a count (available where above 0); empty: `available` and `in_stock`,
    where they have them."""

    def open(self, version: OpenedVersion) -> Stage | None:
        """
        Raises:
            ConfigError: the catalogue has no such column.
        """
        barred_I = self.barred(version)
        return None if barred_I is None else Available(barred_I)

    def barred(self, version: OpenedVersion) -> Bools | None:
        """barred_I: items that must not be served; None where the rule is off or has nothing to go by.

        First stages know them too: they find as many others, and what is similar is answered by them alone.
        """
        items = version.catalogue[1]
        columns = [self.column] if self.column else [name for name in AVAILABILITY if name in items.columns]
        if not self.enforced or not columns:
            return None
        barred_I = np.zeros(len(items), dtype=bool)
        for name in columns:
            available = availability(items[name]) if name in items.columns else None
            if available is None:
                has = ", ".join(f"{n} ({t})" for n, t in items.schema.items())
                raise ConfigError(
                    f"available: {version.bundles.retriever.reference} has no column {name!r} of its items "
                    f"that is Boolean or a count; it has {has}. Name another one with available.column, "
                    "or set available.enforced to False"
                )
            barred_I |= available.not_().fill_null(value=False).to_numpy()
        return barred_I


class Available:
    """Leaves the items that may be served."""

    def __init__(self, barred_I: Bools) -> None:
        self._is_left_I = np.logical_not(barred_I)

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``available``."""
        state = state.keep(self._is_left_I[state.item_ids_S])
        state.clock.lap("available")
        return state
