"""A rule: lists are drawn at random around the order, and how likely each draw was is known."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recray.arrays import Float64s, Int64s
from recray.config import ConfigError
from recray.ops.exploration import (
    Drawn,
    epsilon_greedy,
    epsilon_greedy_chances,
    plackett_luce,
    plackett_luce_chances,
)
from recray.serve.query import Query
from recray.serve.state import RequestState, Stage
from recray.serve.versions import OpenedVersion

LEAST_TEMPERATURE = 1e-3  # at which nothing is left to chance


@dataclass(frozen=True, kw_only=True)
class ExploreConfig:
    """Which item comes next is left to chance; answers say how likely each draw was (``propensity``)."""

    policy: Literal["off", "epsilon", "plackett_luce"] = "off"
    """epsilon: now and then any item comes next; plackett_luce: the nearer to the top, the more often."""
    epsilon: float = 0.05
    """Of epsilon: the chance that the next item is any of those that are left."""
    temperature: float = 2.0
    """Of plackett_luce: an item so many places further down comes next e times less often."""
    among: int = 50
    """Items that are drawn from: the first so many of the order, and no fewer than are asked for."""
    seed: int | None = None
    """Draws follow from it, the user and the request's second: they can be repeated, as a measurement does;
    none: other ones each time."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.epsilon <= 1.0:
            raise ConfigError(f"explore: epsilon must be between 0 and 1, got {self.epsilon}")
        if not self.temperature >= LEAST_TEMPERATURE:
            raise ConfigError(f"explore: temperature must be at least 0.001, got {self.temperature}")
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"explore: seed must be 0 or more, got {self.seed}")
        if self.among < 1:
            raise ConfigError(f"explore: among must be at least 1, got {self.among}")

    def open(self, version: OpenedVersion) -> Stage | None:
        return None if self.policy == "off" else Explore(self)

    def draw(self, num_items: int, k: int, rng: np.random.Generator) -> Drawn:
        """The first k of so many items that are in order, best first."""
        if self.policy == "epsilon":
            return epsilon_greedy(num_items, k, self.epsilon, rng)
        return plackett_luce(self._logits(num_items), k, rng)

    def chances(self, num_items: int, places_k: Int64s) -> Float64s:
        """How likely ``draw`` draws these, one after the other, each given those before it."""
        if self.policy == "plackett_luce":
            return plackett_luce_chances(self._logits(num_items), places_k)
        return epsilon_greedy_chances(num_items, places_k, self.epsilon if self.policy == "epsilon" else 0.0)

    def _logits(self, num_items: int) -> Float64s:
        return -np.arange(num_items) / self.temperature


class Explore:
    """Draws a list of ``query.k`` items: the last rule, for what comes after it would change the chances.

    It goes by places and not by scores, so that what other rules said of the order holds. What fills a long
    list follows undrawn. Belongs to one thread.
    """

    def __init__(self, config: ExploreConfig) -> None:
        self._config = config
        self._rng = np.random.default_rng()

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``explore``."""
        k, is_ranked_S = state.query.k, state.order_S < state.num_ranked
        among_S = state.order_S[is_ranked_S][: max(self._config.among, k)]
        places_S, chances_S = self._config.draw(len(among_S), k, self._rng_of(state.query))
        filled_S = state.order_S[~is_ranked_S][: k - len(places_S)]
        state.clock.lap("explore")
        return state._replace(
            order_S=np.append(among_S[places_S], filled_S),
            propensities_S=np.append(chances_S, np.ones(len(filled_S))),
        )

    def _rng_of(self, query: Query) -> np.random.Generator:
        seed = self._config.seed
        return self._rng if seed is None else np.random.default_rng([seed, query.user_id + 1, query.time])
