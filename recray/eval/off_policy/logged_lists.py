"""Lists that one policy drew at random and showed, as another policy is judged by them.

Shapes: B lists, K places.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from recray.arrays import Bools, Float64s, Int64s
from recray.config import ConfigError


class LogCard(NamedTuple):
    """Which lists were logged, and what counts as reward: estimates of different cards are not compared."""

    application: str
    versions: tuple[str, ...]  # that chose
    since: float  # unix seconds
    until: float
    reward: str  # such as clicks within an hour


@dataclass(frozen=True, kw_only=True)
class LoggedLists:
    """
    Raises:
        ConfigError: a chance or a reward that none can be, or parts that do not fit each other.
    """

    user_ids_B: Int64s
    """The unit that is drawn: lists of one user are not independent."""
    rewards_BK: Float64s
    """0 where a list has ended."""
    logged_BK: Float64s
    """Chance of each draw given those before it, by the policy that was served; NaN: it was not drawn."""
    target_BK: Float64s
    """The same by the policy to be judged; 0: it never shows that there."""
    is_shown_BK: Bools
    """Whether a list has an item at that place."""
    card: LogCard

    def __post_init__(self) -> None:
        shape = self.is_shown_BK.shape
        logged, target = "logged chances", "target chances"
        arrays = {"rewards": self.rewards_BK, logged: self.logged_BK, target: self.target_BK}
        for name, values_BK in arrays.items():
            if values_BK.shape != shape:
                raise ConfigError(f"{name} have the shape {values_BK.shape}, the lists {shape}")
        if self.user_ids_B.shape != shape[:1]:
            raise ConfigError(f"{len(self.user_ids_B)} users for {shape[0]} lists")
        shown = self.is_shown_BK
        for name in (logged, target):
            chances = arrays[name][shown]
            if (chances > 1 + 1e-9).any() or (chances < 0).any():
                raise ConfigError(f"{name} must be between 0 and 1, got {np.nanmax(np.abs(chances)):g}")
        if np.isnan(self.target_BK[shown]).any():
            raise ConfigError("target chances must be known of all that was shown: 0 of what never would be")
        if not np.isfinite(self.rewards_BK[shown]).all():
            raise ConfigError("rewards must be finite")

    def first(self, places: int) -> "LoggedLists":
        """The beginnings of the lists, and what they earned."""
        cut = {
            name: getattr(self, name)[:, :places]
            for name in ("rewards_BK", "logged_BK", "target_BK", "is_shown_BK")
        }
        return replace(self, **cut, card=self.card._replace(reward=f"{self.card.reward}, first {places}"))

    def __len__(self) -> int:
        return len(self.user_ids_B)

    @property
    def ratios_BK(self) -> Float64s:
        """How much more likely each draw is by the policy to be judged, given those before it."""
        return np.divide(
            self.target_BK, self.logged_BK, where=self.is_shown_BK, out=np.ones(self.target_BK.shape)
        )

    @property
    def prefix_weights_BK(self) -> Float64s:
        """How much more likely each list is up to and with each place."""
        weights_BK: Float64s = np.cumprod(self.ratios_BK, axis=1, dtype=np.float64)
        return weights_BK

    @property
    def list_weights_B(self) -> Float64s:
        """How much more likely each whole list is."""
        return self.prefix_weights_BK[:, -1]
