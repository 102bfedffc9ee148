"""A rule: what cannot be had is not shown."""

from dataclasses import dataclass

import numpy as np

from recray.arrays import Bools
from recray.config import ConfigError
from recray.features.columns import AVAILABILITY, availability
from recray.serve.barred import Barred
from recray.serve.state import RequestState
from recray.serve.versions import OpenedVersion


@dataclass(frozen=True, kw_only=True)
class AvailableConfig:
    """Items that are not available are never served; where the catalogue says so, this is on by default."""

    enforced: bool = True
    """Leave out items that are not available; those of which nothing is said stay."""
    column: str = ""
    """Column of the items, Boolean or a count (available where above 0); empty: `available` and `in_stock`,
    where they have them."""

    def barred(self, version: OpenedVersion) -> Barred | None:
        """What cannot be had, by a version's columns and by what is told later; None: the rule is off.

        Raises:
            ConfigError: the catalogue has no such column.
        """
        if not self.enforced:
            return None
        version.barred.bar(self._by_columns(version))
        return version.barred

    def _by_columns(self, version: OpenedVersion) -> Bools:
        items = version.catalogue[1]
        columns = [self.column] if self.column else [name for name in AVAILABILITY if name in items.columns]
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


class Servable:
    """Leaves the items that can be had and are allowed."""

    def __init__(self, barred: Barred) -> None:
        self._barred = barred

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``available``, where there is something that cannot be had."""
        barred = self._barred.of(state.query.context)
        if not len(barred.ids):
            return state
        state = state.keep(~barred.mask_I[state.item_ids_S])
        state.clock.lap("available")
        return state
