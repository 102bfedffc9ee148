"""A rule: what is new stands higher."""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from recray.arrays import Float64s
from recray.config import ConfigError, nearest
from recray.features.columns import unix_seconds
from recray.serve.state import RequestState, Stage
from recray.serve.versions import OpenedVersion

DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class FreshConfig:
    """New items gain, and the gain halves with their age."""

    gain: float = 0.0
    """What an item of this moment gains, in standard deviations of the scores of the list; 0: nothing."""
    half_life_days: float = 30.0
    """Age at which half of it is left."""
    column: str = ""
    """Column of the items that says since when there is one: a date, or a moment."""

    def __post_init__(self) -> None:
        if not 0 <= self.gain < math.inf:
            raise ConfigError(f"fresh: gain must not be negative or without end, got {self.gain}")
        if not self.half_life_days > 0:
            raise ConfigError(f"fresh: half_life_days must be positive, got {self.half_life_days}")
        if self.gain and not self.column:
            raise ConfigError("fresh: name the column of the items that says since when, in column")

    def open(self, version: OpenedVersion) -> Stage | None:
        """
        Raises:
            ConfigError: the catalogue has no such column, or it holds no dates.
        """
        if not self.gain:
            return None
        items = version.catalogue[1]
        dates = [name for name, kind in items.schema.items() if isinstance(kind, (pl.Date, pl.Datetime))]
        if self.column not in dates:
            has = f"dates are in {', '.join(dates)}" if dates else "no column of it holds dates"
            raise ConfigError(
                f"fresh: {version.bundles.retriever.reference} has no column {self.column!r} of dates: {has}"
                f"{nearest(self.column, dates)}"
            )
        return Fresh(unix_seconds(items[self.column]).to_numpy(), self)


class Fresh:
    """Orders by score and newness. Scores stay as they are.

    Args:
        since_I: unix seconds; NaN where nothing is said, which gains nothing.
    """

    def __init__(self, since_I: Float64s, config: FreshConfig) -> None:
        self._since_I, self._config = since_I, config

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``fresh``. What fills a list, and what has no score, stays behind."""
        is_scored_S = (state.order_S < state.num_ranked) & np.isfinite(state.scores_K[state.order_S])
        scored_S = state.order_S[is_scored_S]
        if not len(scored_S):
            return state
        age_days_S = (state.query.time - self._since_I[state.candidates.item_ids_K[scored_S]]) / DAY_S
        newness_S = np.exp2(-np.maximum(age_days_S, 0.0) / self._config.half_life_days)
        scores_S = state.scores_K[scored_S].astype(np.float64)
        scores_S += self._config.gain * scores_S.std() * np.nan_to_num(newness_S)
        by_both_S = scored_S[np.argsort(-scores_S, kind="stable")]
        state.clock.lap("fresh")
        return state._replace(order_S=np.append(by_both_S, state.order_S[~is_scored_S]))
