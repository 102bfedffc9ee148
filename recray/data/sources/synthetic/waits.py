"""Generated events in which the time that has passed decides what comes next.

A user has two topics of their own, an everyday one and a weekly one, and wanders to others in between. What
they take after a wait depends on how long it was:

    minutes   goes on: the topic of the last event with probability ``stays``, else any topic
    a night   the everyday topic
    a week    the weekly topic

A share ``noise`` of the events is of any topic whatever the wait. Within a topic items are drawn by
popularity (Zipf), none twice. Who does not look at the clock can do no better than to mix the three; who
does, knows which it is. Drawing is by Gumbel noise, as in ``truth.py``.

Shapes: U users, I items, C topics, N events of all users.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Bools, Float64s, Int64s
from recray.config import ConfigError, to_dict
from recray.data.source import RawTables
from recray.data.sources.synthetic.truth import DAY_S, START_S

MINUTES, NIGHT, WEEK = range(3)
_WAITS_S = ((20, 1_200), (21_600, 129_600), (432_000, 1_209_600))  # of each kind, log-uniform
_NIGHT_FROM_S, _WEEK_FROM_S = 7_200, 259_200


@dataclass(frozen=True, kw_only=True)
class WaitsConfig:
    """Sizes and strengths. Equal configs give equal data, bit for bit on one machine."""

    num_users: int = 1_500
    num_topics: int = 20
    items_per_topic: int = 60
    events_per_user: float = 40.0  # mean
    kinds: tuple[float, float, float] = (0.6, 0.25, 0.15)  # share of waits of minutes, a night, a week
    stays: float = 0.75
    noise: float = 0.1
    popularity_exponent: float = 1.3  # Zipf, within a topic
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_users < 1 or self.num_topics < 2:
            raise ConfigError(f"one user and two topics at least, got {self.num_users} and {self.num_topics}")
        if not 3 <= self.events_per_user < self.items_per_topic:
            raise ConfigError(
                f"events_per_user must be from 3 to less than items_per_topic, got {self.events_per_user}"
            )
        if min(self.kinds) < 0 or abs(sum(self.kinds) - 1) > 1e-9:
            raise ConfigError(f"kinds must be shares that add up to 1, got {self.kinds}")
        if not (0 <= self.stays <= 1 and 0 <= self.noise <= 1):
            raise ConfigError(f"stays and noise must be in 0..1, got {self.stays} and {self.noise}")


class WaitsTruth(NamedTuple):
    """What was planted, and what came of it."""

    everyday_U: Int64s
    weekly_U: Int64s
    topics_I: Int64s
    popularity_I: Float64s  # within its topic
    user_ids_N: Int64s
    item_ids_N: Int64s
    timestamps_N: Int64s


@dataclass(frozen=True, kw_only=True)
class SyntheticWaits:
    """Raw ids are 1..N in the order of the truth's rows."""

    name: str = "synthetic-waits"
    config: WaitsConfig = field(default_factory=WaitsConfig)

    @property
    def reader(self) -> str:
        return "synthetic-waits"

    def options(self) -> dict[str, Any]:
        return {"config": to_dict(self.config)}

    def read(self, scratch: Path) -> RawTables:
        truth = draw(self.config)
        columns = {
            "user": truth.user_ids_N + 1,
            "item": truth.item_ids_N + 1,
            "rating": np.ones(len(truth.item_ids_N), np.float32),
            "timestamp": truth.timestamps_N,
        }
        return RawTables(interactions=pl.DataFrame(columns))


@lru_cache(maxsize=4)
def draw(config: WaitsConfig) -> WaitsTruth:
    """All events, by turns: the first of every user, the second..."""
    rng = np.random.default_rng(config.seed)
    num_items = config.num_topics * config.items_per_topic
    topics_I = np.arange(num_items) % config.num_topics
    ranks_I = 1.0 + np.arange(num_items) // config.num_topics
    popularity_I = np.power(ranks_I, -config.popularity_exponent).astype(np.float64)
    users_U = np.arange(config.num_users)
    everyday_U = rng.integers(config.num_topics, size=config.num_users)
    weekly_U = (everyday_U + rng.integers(1, config.num_topics, size=config.num_users)) % config.num_topics
    lengths_U = np.clip(rng.poisson(config.events_per_user, config.num_users), 3, config.items_per_topic - 1)
    unseen_UI = np.ones((config.num_users, num_items), bool)
    times_U, topics_U = START_S + rng.integers(60 * DAY_S, size=config.num_users), everyday_U
    turns = []
    for turn in range(int(lengths_U.max())):
        if turn:
            kinds_U, waits_U = _waits(config, rng)
            topics_U = _next_topics(config, rng, kinds_U, topics_U, everyday_U, weekly_U)
            times_U = times_U + waits_U
        items_U = _choose(rng, topics_U, unseen_UI, topics_I, popularity_I)
        unseen_UI[users_U, items_U] = False
        there_U = turn < lengths_U
        turns.append(np.stack([users_U, items_U, times_U])[:, there_U])
    columns_3N = np.concatenate(turns, axis=1)
    columns_3N = columns_3N[:, np.argsort(columns_3N[2], kind="stable")]
    return WaitsTruth(everyday_U, weekly_U, topics_I, popularity_I, *columns_3N)


def _waits(config: WaitsConfig, rng: np.random.Generator) -> tuple[Int64s, Int64s]:
    """(kind, seconds) of each user's next wait."""
    kinds_U: Int64s = rng.choice(3, size=config.num_users, p=config.kinds)
    low_U, high_U = np.log(np.array(_WAITS_S, np.float64))[kinds_U].T
    return kinds_U, np.exp(rng.uniform(low_U, high_U)).astype(np.int64)


def _next_topics(
    config: WaitsConfig,
    rng: np.random.Generator,
    kinds_U: Int64s,
    last_U: Int64s,
    everyday_U: Int64s,
    weekly_U: Int64s,
) -> Int64s:
    any_U = rng.integers(config.num_topics, size=len(last_U))
    goes_on_U = np.where(rng.random(len(last_U)) < config.stays, last_U, any_U)
    topics_U = np.choose(kinds_U, [goes_on_U, everyday_U, weekly_U])
    kept_U: Int64s = np.where(rng.random(len(last_U)) < config.noise, any_U, topics_U)
    return kept_U


def _choose(
    rng: np.random.Generator, topics_U: Int64s, unseen_UI: Bools, topics_I: Int64s, popularity_I: Float64s
) -> Int64s:
    scores_UI = np.log(popularity_I) + rng.gumbel(size=unseen_UI.shape)
    scores_UI[~unseen_UI | (topics_I != topics_U[:, None])] = -np.inf
    items_U: Int64s = scores_UI.argmax(axis=1)
    return items_U


def chances(
    config: WaitsConfig, user: int, last_item: int, wait_s: float | None, unseen_I: Bools
) -> Float64s:
    """chance_I of each item to come next; ``wait_s`` None: of who does not look at the clock."""
    truth = draw(config)
    any_C, only_CC = np.full(config.num_topics, 1 / config.num_topics), np.eye(config.num_topics)
    after = [
        config.stays * only_CC[truth.topics_I[last_item]] + (1 - config.stays) * any_C,
        only_CC[truth.everyday_U[user]],
        only_CC[truth.weekly_U[user]],
    ]
    if wait_s is None:
        topics_C = sum(share * topic_C for share, topic_C in zip(config.kinds, after, strict=True))
    else:
        topics_C = after[kind_of_wait(wait_s)]
    topics_C = config.noise * any_C + (1 - config.noise) * topics_C
    left_I = truth.popularity_I * unseen_I
    total_C = np.bincount(truth.topics_I, left_I, config.num_topics)
    chance_I: Float64s = (topics_C / np.maximum(total_C, 1e-12))[truth.topics_I] * left_I
    return chance_I


def kind_of_wait(wait_s: float) -> int:
    return WEEK if wait_s >= _WEEK_FROM_S else NIGHT if wait_s >= _NIGHT_FROM_S else MINUTES
