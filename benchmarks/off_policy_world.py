"""Lists that one Plackett-Luce policy drew and another is judged by, where the truth is known.

Users differ and come back; a click depends on the item and its place (Richardson, Dominowska & Ragno, WWW
2007).

Shapes: B lists, K places, I items.
"""

from dataclasses import dataclass

import numpy as np

from recray.arrays import Float64s, Int64s
from recray.eval.off_policy.estimators import Model
from recray.eval.off_policy.logged_lists import LogCard, LoggedLists
from recray.ops.exploration import plackett_luce_chances

NUM_ITEMS, LENGTH, USERS = 12, 4, 600
EXAMINED_K = np.arange(1, LENGTH + 1) ** -0.7
CARD = LogCard("shop", ("1",), 0.0, 1.0, "clicks")


@dataclass(frozen=True)
class World:
    """Two policies, and how much each item appeals."""

    logged_I: Float64s  # logits
    target_I: Float64s
    appeal_I: Float64s

    @classmethod
    def make(cls, apart: float, seed: int = 0) -> "World":
        """
        Args:
            apart: standard deviation of the difference of the policies' logits.
        """
        rng = np.random.default_rng(seed)
        logged_I = -np.arange(NUM_ITEMS) / 3.0
        appeal_I = rng.uniform(0.05, 0.4, NUM_ITEMS)
        return cls(logged_I, logged_I + apart * rng.normal(size=NUM_ITEMS), appeal_I)

    def truth(self, lists: int = 400_000) -> float:
        """The reward of a list by the policy to be judged."""
        orders_BK = drawn(self.target_I, lists, np.random.default_rng(99))
        return float((self.appeal_I[orders_BK] * EXAMINED_K).sum(axis=1).mean())

    def log(self, seed: int, users: int = USERS) -> tuple[LoggedLists, Model, Int64s]:
        """Lists, what a model that is wrong by a third says of them, and the items of each."""
        rng = np.random.default_rng([1, seed])
        user_ids_B = np.repeat(np.arange(users), rng.integers(1, 6, users))
        orders_BK = drawn(self.logged_I, len(user_ids_B), rng)
        eager_B = rng.uniform(0.5, 1.5, users)[user_ids_B]
        clicked_BK = rng.random(orders_BK.shape) < self.appeal_I[orders_BK] * EXAMINED_K * eager_B[:, None]
        lists = LoggedLists(
            user_ids_B=user_ids_B,
            rewards_BK=clicked_BK.astype(np.float64),
            logged_BK=chances(self.logged_I, orders_BK),
            target_BK=chances(self.target_I, orders_BK),
            is_shown_BK=np.ones(orders_BK.shape, bool),
            card=CARD,
        )
        values_BKI, chances_BKI = self.model(orders_BK)
        shown_BK = np.take_along_axis(values_BKI, orders_BK[:, :, None], axis=2)[:, :, 0]
        return lists, Model(shown_BK, (values_BKI * chances_BKI).sum(axis=2)), orders_BK

    def model(self, orders_BK: Int64s) -> tuple[Float64s, Float64s]:
        """Of each item at each place, after what was shown above: the value that a wrong model sees from
        there on, and its chance by the policy to be judged."""
        left_BKI = np.ones((*orders_BK.shape, NUM_ITEMS), bool)
        for k in range(1, LENGTH):
            left_BKI[:, k] = left_BKI[:, k - 1]
            left_BKI[np.arange(len(orders_BK)), k, orders_BK[:, k - 1]] = False
        weights_BKI = np.where(left_BKI, np.exp(self.target_I), 0.0)
        chances_BKI = weights_BKI / weights_BKI.sum(axis=2, keepdims=True)
        seen_I = 0.67 * self.appeal_I
        rest_K = np.append(np.cumsum((seen_I.mean() * EXAMINED_K)[::-1])[::-1][1:], 0.0)
        values_BKI = np.broadcast_to(seen_I * EXAMINED_K[:, None] + rest_K[:, None], chances_BKI.shape)
        return values_BKI, chances_BKI


def drawn(logits_I: Float64s, lists: int, rng: np.random.Generator) -> Int64s:
    """orders_BK of the first items."""
    noisy_BI = logits_I + rng.gumbel(size=(lists, len(logits_I)))
    return np.argsort(-noisy_BI, axis=1)[:, :LENGTH]


def chances(logits_I: Float64s, orders_BK: Int64s) -> Float64s:
    return np.array([plackett_luce_chances(logits_I, order_K) for order_K in orders_BK])
