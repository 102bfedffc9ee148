"""Users of an experiment: the arm in which each was first seen, and the windows that are still open."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from recray.serve.traffic.guardrails import QUANTILES

ARM_BITS, FAILURE_BITS = 8, 8


class User(NamedTuple):
    """What is remembered of a user, as one integer."""

    arm: int
    shares: int  # place, among all shares that there were, of those that held at the first answer
    failures: int  # a bit for each kind that has counted

    @classmethod
    def unpacked(cls, packed: int) -> "User":
        arm, failures = packed % 2**ARM_BITS, (packed >> ARM_BITS) % 2**FAILURE_BITS
        return cls(arm, packed >> (ARM_BITS + FAILURE_BITS), failures)

    def packed(self) -> int:
        return self.arm | self.failures << ARM_BITS | self.shares << (ARM_BITS + FAILURE_BITS)


@dataclass(slots=True)
class Window:
    """The first seconds of a user, from the first answer on."""

    closes_at: float
    slow_ms: list[float]  # for each quantile: times from which an answer is slow, known before the first
    answers: int = 0
    slow: list[int] = field(default_factory=lambda: [0] * len(QUANTILES))  # of the answers
    clicks: int = 0

    def answered(self, fair_ms: float) -> None:
        """One answer.

        Args:
            fair_ms: the time it took, without what a candidate is allowed.
        """
        self.answers += 1
        for place, limit_ms in enumerate(self.slow_ms):
            self.slow[place] += fair_ms > limit_ms

    def parts(self) -> dict[str, float]:
        """Shares of the answers, by check: slow ones, and clicks (more clicks than answers are as many)."""
        slow = dict(zip(QUANTILES, (count / self.answers for count in self.slow), strict=True))
        return {**slow, "clicks": min(self.clicks / self.answers, 1.0)}

    def to_json(self) -> list[Any]:
        return [self.closes_at, self.slow_ms, self.answers, self.slow, self.clicks]


def key_of(user: str) -> int:
    """64 bits of a hash. Among 200,000 users two have the same with a chance of one in a billion."""
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8).digest(), "little")


class Enrolled:
    """The first ``most`` users that were seen, by hash. A user who is not among them is never counted: whom
    the bound leaves out does not depend on the arm, so evidence ends there, and stays right.

    Attributes:
        open: of each user whose window is open, in the order of first answers.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._packed: dict[int, int] = {}
        self.open: dict[int, Window] = {}

    def __len__(self) -> int:
        return len(self._packed)

    @property
    def full(self) -> bool:
        return len(self._packed) >= self._most

    def get(self, key: int) -> User | None:
        packed = self._packed.get(key)
        return None if packed is None else User.unpacked(packed)

    def set(self, key: int, user: User) -> None:
        self._packed[key] = user.packed()

    def window(self, key: int, at: float) -> Window | None:
        """A user's window, where it is open at this time."""
        window = self.open.get(key)
        return window if window and at < window.closes_at else None

    def closed(self, now: float, window_s: float) -> list[tuple[User, Window]]:
        """Users whose window has closed since the last call, in the order of first answers.

        Args:
            window_s: of a window. One that is to close later than twice that from now began by a clock that
                was ahead, and would keep all behind it open: it closes ``window_s`` from now.
        """
        for window in self.open.values():
            if window.closes_at > now + 2 * window_s:
                window.closes_at = now + window_s
        done = list(takewhile(lambda each: each[1].closes_at <= now, self.open.items()))
        return [(User.unpacked(self._packed[key]), self.open.pop(key)) for key, _ in done]

    def to_json(self) -> dict[str, Any]:
        return {
            "keys": _text(np.fromiter(self._packed, np.uint64, len(self))),
            "packed": _text(np.fromiter(self._packed.values(), np.uint64, len(self))),
            "open": [[key, *window.to_json()] for key, window in self.open.items()],
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any], most: int) -> "Enrolled":
        users = cls(most)
        keys, packed = (
            np.frombuffer(base64.b64decode(told[name]), np.uint64).tolist() for name in ("keys", "packed")
        )
        users._packed = dict(zip(keys, packed, strict=True))
        users.open = {key: Window(*values) for key, *values in told["open"]}
        return users


def _text(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()
