"""A simulated world: users of the planted truth who come back, are shown lists and answer them.

Click model: a dynamic Bayesian network (Chapelle & Zhang, A dynamic Bayesian network click model for web
search ranking, WWW 2009; Chuklin, Markov & de Rijke, Click models for web search, 2015, chapter 3). With a(k)
the chance that the item at place k attracts:

    click(k) = looked(k) a(k)        looked(1) = 1        looked(k+1) = looked(k) g (1 - s a(k))

``g``: goes on to the next place; ``s``: has enough after a click. So the expected clicks of a list are known
without drawing any, and the best list has those that attract most, by attraction: to exchange neighbours
never helps, nor does an item that attracts less.

    a = sigmoid(strength <taste, item> + popularity + trend(day) - fatigue (times shown in vain) + bias)

Shapes: U users, I items, V visits of a day, K places of a list, G genres.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from recray.arrays import Bools, Float32s, Float64s, Int64s
from recray.config import ConfigError
from recray.data.sources.synthetic.truth import DAY_S, START_S, SyntheticConfig, Truth, plant
from recray.data.sources.synthetic.words import GENRES

_COMES, _CLICKS = range(2)  # of a seed: generators that do not depend on each other


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """How people behave. Equal configs give equal worlds, bit for bit on one machine."""

    truth: SyntheticConfig = field(default_factory=SyntheticConfig)
    visits_a_day: float = 0.5
    """Of a user, the mean; some come ten times as often as others."""
    strength: float = 6.0
    """Of taste."""
    popularity: float = 0.4
    """Of what everybody likes, beside taste."""
    bias: float = -3.0
    """Attraction of an item that is to nobody's taste: -3 is 5 %."""
    goes_on: float = 0.85
    enough: float = 0.5
    """Chance to leave after a click."""
    fatigue: float = 0.5
    """Less attraction for each time that an item was looked at and not clicked."""
    trend: float = 0.15
    """Step of a day in the attraction of a genre, a random walk."""
    buys: float = 0.2
    """Chance to buy what was clicked."""

    def __post_init__(self) -> None:
        for name in ("goes_on", "enough", "buys"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.visits_a_day <= 0 or self.fatigue < 0 or self.trend < 0:
            raise ConfigError("visits_a_day must be positive, fatigue and trend not negative")


class Visits(NamedTuple):
    """Who comes on a day, in the order of time."""

    users_V: Int64s
    times_V: Int64s  # unix seconds


class Reactions(NamedTuple):
    """What people did with the lists that they were shown."""

    clicked_VK: Bools
    bought_VK: Bools


class World:
    """What was shown in vain is remembered by item and user: a world for each policy that is tried in it."""

    def __init__(self, config: WorldConfig) -> None:
        self.config, self.truth = config, plant(config.truth)
        num_users, num_items = config.truth.num_users, config.truth.num_items
        self._eager_U = np.random.default_rng([config.truth.seed, 71]).lognormal(0.0, 0.8, num_users)
        self._eager_U /= self._eager_U.mean()
        self.in_vain_UI = np.zeros((num_users, num_items), np.float32)
        self._liked_UI = _liked(self.truth, config)

    def begin(self, day: int) -> int:
        """Unix seconds; day 0 follows on the last one of the planted data."""
        return START_S + (self.config.truth.days + day) * DAY_S

    def visits(self, day: int) -> Visits:
        rng = self._rng(day, _COMES)
        counts_U = rng.poisson(self.config.visits_a_day * self._eager_U)
        users_V = np.repeat(np.arange(len(counts_U)), counts_U)
        times_V = self.begin(day) + rng.integers(DAY_S, size=len(users_V))
        order_V = np.lexsort((users_V, times_V))
        return Visits(users_V[order_V], times_V[order_V])

    def attraction(self, day: int, users_V: Int64s) -> Float32s:
        """attraction_VI of every item for these users."""
        logit_VI = self._liked_UI[users_V] + self._trend(day) - self.config.fatigue * self.in_vain_UI[users_V]
        return (1 / (1 + np.exp(-logit_VI))).astype(np.float32)

    def expected_clicks(self, day: int, users_V: Int64s, lists_VK: Int64s) -> Float64s:
        """clicks_V of each list, without drawing any."""
        attraction_VI = self.attraction(day, users_V)
        attracts_VK: Float64s = np.take_along_axis(attraction_VI.astype(np.float64), lists_VK, axis=1)
        goes_on_VK = self.config.goes_on * (1 - self.config.enough * attracts_VK)
        looked_VK = np.cumprod(np.c_[np.ones(len(goes_on_VK)), goes_on_VK[:, :-1]], axis=1, dtype=np.float64)
        clicks_V: Float64s = (looked_VK * attracts_VK).sum(axis=1)
        return clicks_V

    def best_lists(self, day: int, users_V: Int64s, k: int) -> Int64s:
        """lists_VK of the items that attract most, best first."""
        return np.argsort(-self.attraction(day, users_V), axis=1, kind="stable")[:, :k]

    def react(self, day: int, users_V: Int64s, lists_VK: Int64s, first: int = 0) -> Reactions:
        """What these users do with these lists, all at once; and what was in vain is remembered.

        Draws do not depend on what is shown: policies meet the same people, where their lists are of one
        length and asked for together alike.

        Args:
            first: number of the first of these visits on that day.
        """
        rng, config = self._rng(day, _CLICKS, first), self.config
        drawn = rng.random((4, *lists_VK.shape))
        attracts_VK = np.take_along_axis(self.attraction(day, users_V), lists_VK, axis=1) > drawn[0]
        goes_on_VK = (drawn[1] < config.goes_on) & ~(attracts_VK & (drawn[2] < config.enough))
        looks_VK = np.cumprod(np.c_[np.ones(len(lists_VK), bool), goes_on_VK[:, :-1]], axis=1).astype(bool)
        clicked_VK = looks_VK & attracts_VK
        users_VK = np.broadcast_to(users_V[:, None], lists_VK.shape)
        np.add.at(self.in_vain_UI, (users_VK, lists_VK), (looks_VK & ~clicked_VK).astype(np.float32))
        self.in_vain_UI[users_VK[clicked_VK], lists_VK[clicked_VK]] = 0.0
        return Reactions(clicked_VK, clicked_VK & (drawn[3] < config.buys))

    def _trend(self, day: int) -> Float32s:
        """trend_I of a day: the mean walk of an item's genres since day 0."""
        rng = np.random.default_rng([self.config.truth.seed, 72])
        walk_G = rng.normal(0, self.config.trend, (day + 1, len(GENRES))).sum(axis=0)
        first_I, second_I = self.truth.items.genres_I2.T
        second_I = np.where(second_I < 0, first_I, second_I)
        trend_I: Float32s = ((walk_G[first_I] + walk_G[second_I]) / 2).astype(np.float32)
        return trend_I

    def _rng(self, day: int, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.config.truth.seed, 70, day, *what])


def _liked(truth: Truth, config: WorldConfig) -> Float32s:
    """What does not change: tastes as they were at the end of the planted data."""
    items = truth.items
    popular_I = config.popularity * (items.popularity_I - items.popularity_I.mean())
    # Factor by factor: the same bits for any number of BLAS threads.
    liked_UI = np.tile((popular_I + config.bias).astype(np.float32), (truth.config.num_users, 1))
    for d in range(truth.config.dim):
        liked_UI += config.strength * truth.users.last_taste_UD[:, d, None] * items.factors_ID[:, d]
    return liked_UI
