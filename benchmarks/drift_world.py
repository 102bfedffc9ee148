"""A stream whose drift is known: users with habits, items with an audience, hours and weekends.

Shapes: N rows, U users, I items, A answers.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from recray.arrays import Float32s, Int64s
from recray.monitor.sketch import Rows, Watched, watched_labels, watched_numbers

USERS, ITEMS, KINDS, SHOWN = 3000, 2000, 10, 10
HOUR_S, DAY_S = 3600, 86_400
MONDAY = 1_767_571_200 + 0  # 2026-01-05
DEVICES = np.array(["phone", "tablet", "desktop", "tv"])
SOURCES = np.array(["two_tower", "popular", "followers"])
NUMBERS = (
    "age", "history", "mood", "price", "likeness", "retrieval_score", "recent", "is_member", "rating",
    "constant",
)  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """What has moved. Nothing, unless it is said."""

    mean: float = 0.0  # of likeness, in its standard deviations
    spread: float = 1.0  # of price's logarithm, times
    missing: float = 0.0  # share of the rows, of rating, more
    zeroed: float = 0.0  # share of the users whose recent events are read as none
    device: float = 0.0  # share of the users who come by phone now
    new_items: float = 0.0  # share of the shown items
    new_users: float = 0.0  # share of the answers
    popular: float = 0.0  # share of the rows that go to the hundred most popular items
    taste: float = 0.0  # share of the rows that go to one kind of item
    narrow: float = 0.0  # share of the rows that go to one item in ten
    score: float = 0.0  # in its standard deviations
    fallback: float = 0.0  # share of the answers


NOTHING = Planted()


class World:
    """One population: what it does is a function of the seed and the hour."""

    def __init__(self, seed: int, answers_a_day: int, wobble: float = 0.0) -> None:
        """
        Args:
            wobble: standard deviation of what a day adds to one feature.
        """
        self.seed, self.answers_a_day, self.wobble = seed, answers_a_day, wobble
        rng = np.random.default_rng([seed, 1])
        activity_U = rng.gamma(0.5, size=USERS)
        self.activity_U = activity_U / activity_U.sum()
        self.age_U = rng.normal(40, 12, USERS)
        self.level_U = rng.normal(0, 1, USERS)
        self.kind_U = rng.integers(KINDS, size=USERS)
        self.device_U = rng.choice(len(DEVICES), USERS, p=[0.5, 0.1, 0.35, 0.05])
        self.member_U = rng.random(USERS) < 0.3
        self.unrated_U = rng.random(USERS) < 0.2
        weight_I = 1.0 / np.arange(1, ITEMS + 1) ** 0.8
        self.weight_I = weight_I / weight_I.sum()
        self.price_I = rng.normal(3, 1, ITEMS)
        self.kind_I = rng.integers(KINDS, size=ITEMS)
        self.count_I = np.round(1e5 * self.weight_I)
        centres_KD = rng.normal(0, 1, (KINDS, 16))
        self.vectors_ID: Float32s = (centres_KD[self.kind_I] + rng.normal(0, 1, (ITEMS, 16))).astype("f4")
        self.of_kind = [np.flatnonzero(self.kind_I == kind) for kind in range(KINDS)]
        self.narrow = rng.choice(ITEMS, ITEMS // 10, replace=False)

    def rows(self, hour: int, hours: int, planted: Planted = NOTHING) -> Rows:
        """Of so many hours from one on, counted from a Monday at 0:00 UTC."""
        rng = np.random.default_rng([self.seed, 2, hour])
        wobble = np.random.default_rng([self.seed, 3, hour // 24]).normal(0, self.wobble)
        of_day = 1 + 0.8 * np.sin((np.arange(hour, hour + hours) % 24 - 9) / 24 * 2 * np.pi)
        rate = of_day * np.where(np.arange(hour, hour + hours) // 24 % 7 >= 5, 1.4, 1.0)
        counts = rng.poisson(rate * self.answers_a_day / 24)
        hour_A = np.repeat(np.arange(hour, hour + hours), counts)
        answers = len(hour_A)
        user_A = rng.choice(USERS, answers, p=self.activity_U)
        is_new_A = rng.random(answers) < 0.01 + planted.new_users
        user_N, hour_N = np.repeat(user_A, SHOWN), np.repeat(hour_A, SHOWN)
        n = len(user_N)
        item_N = self._items(rng, user_N, planted)
        is_new_item_N = rng.random(n) < 0.005 + planted.new_items
        weekend_N = hour_N // 24 % 7 >= 5
        score_N = np.repeat(rng.normal(0, 0.6, answers), SHOWN) + rng.normal(0, 0.8, n) + planted.score
        member_N, recent_N = self.member_U[user_N], rng.poisson(np.exp(self.level_U[user_N])).astype(float)
        recent_N[(user_N * 7919 % 1000) < 1000 * planted.zeroed] = 0
        unrated_N = self.unrated_U[user_N] | (rng.random(n) < planted.missing)
        phone_N = (user_N * 104_729 % 1000) < 1000 * planted.device
        fallback_N = np.repeat(rng.random(answers) < 0.01 + planted.fallback, SHOWN)
        columns = {
            "age": self.age_U[user_N],
            "history": np.exp(self.level_U[user_N] * 1.5),
            "mood": rng.normal(0, 1, n) + weekend_N + np.sin(hour_N / 24 * 2 * np.pi),
            "price": np.exp(3 + (self.price_I[item_N] - 3) * planted.spread),
            "likeness": 0.7 * self.level_U[user_N] + rng.normal(0, 0.7, n) + planted.mean,
            "retrieval_score": score_N * 0.5 + rng.normal(0, 1, n) + wobble,
            "recent": recent_N,
            "is_member": member_N.astype(float),
            "rating": np.where(unrated_N, np.nan, 3.5 + 0.5 * self.level_U[user_N] + rng.normal(0, 0.5, n)),
            "constant": np.ones(n),
            "score": score_N,
            "item popularity": np.log2(1 + self.count_I[item_N]),
        }
        labels = {
            "device": np.where(phone_N, "phone", DEVICES[self.device_U[user_N]]),
            "source": SOURCES[rng.choice(3, n, p=[0.7, 0.2, 0.1])],
            "item": np.where(is_new_item_N, "unknown", "known"),
            "user": np.where(np.repeat(is_new_A, SHOWN), "unknown", "known"),
            "answered": np.where(fallback_N, "fallback", "whole"),
        }
        names = np.where(is_new_item_N, "new" + (item_N % 50).astype(str), item_N.astype(str))
        return Rows(
            at_N=np.asarray(MONDAY + hour_N * float(HOUR_S), np.float64),
            users=pl.Series("user", user_N.astype(str)),
            answers=pl.Series("answer", np.repeat(np.arange(answers), SHOWN)),
            columns=pl.DataFrame({**columns, **labels}),
            items=pl.Series("item", names),
            item_rows_N=np.where(is_new_item_N, -1, item_N),
        )

    def _items(self, rng: np.random.Generator, user_N: Int64s, planted: Planted) -> Int64s:
        """Half of the shown items are of the user's own kind."""
        n = len(user_N)
        item_N = rng.choice(ITEMS, n, p=self.weight_I)
        of_kind_N = rng.random(n) < 0.5
        kind_N = self.kind_U[user_N]
        kind_N = np.where(rng.random(n) < planted.taste, 0, kind_N)
        for kind, items in enumerate(self.of_kind):
            mine = np.flatnonzero(of_kind_N & (kind_N == kind))
            weight = self.weight_I[items] / self.weight_I[items].sum()
            item_N[mine] = rng.choice(items, len(mine), p=weight)
        for share, few in ((planted.popular, np.arange(100)), (planted.narrow, self.narrow)):
            moved = np.flatnonzero(rng.random(n) < share)
            item_N[moved] = rng.choice(few, len(moved))
        return item_N


def watched(rows: Rows) -> list[Watched]:
    """All columns, told apart as a reference's rows are."""
    found = [watched_numbers(name, "features", rows.columns[name]) for name in NUMBERS]
    found += [
        watched_numbers("score", "scores", rows.columns["score"]),
        watched_numbers("item popularity", "lists", rows.columns["item popularity"]),
    ]
    labels = rows.columns.select("device", "source", "item", "user", "answered")
    return found + [watched_labels(column.name, "context", column) for column in labels]
