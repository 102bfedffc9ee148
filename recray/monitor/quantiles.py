"""A quantile of what streams by, with bounds that hold at every moment, in a histogram of fixed size.

Howard & Ramdas, Sequential estimation of quantiles with applications to A/B testing and best-arm
identification, Bernoulli 28(3), 2022, https://arxiv.org/abs/1906.09712: how many of n values lie at or below
the q-quantile is Binomial(n, q), so a confidence sequence for a Bernoulli is one for the quantile. Here that
is the beta-binomial one, which they found the tighter for one quantile that is fixed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from recray.config import ConfigError
from recray.monitor.sequential import Bounds, RateRatio

RESOLUTION = 1.02
LEAST, MOST = 0.01, 3.6e6  # milliseconds: ten microseconds to an hour; what lies beyond is put there
CONCENTRATION = 2.0


@dataclass
class LogHistogram:
    """Counts of positive values in buckets whose edges are 2 % apart: any quantile to 2 %, in 996 buckets at
    most.

    Attributes:
        counts: of bucket number: how many values; bucket i holds LEAST * 1.02^i to LEAST * 1.02^(i + 1).
    """

    counts: dict[int, int] = field(default_factory=dict)
    total: int = 0

    def add(self, value: float) -> None:
        place = int(math.log(min(max(value, LEAST), MOST) / LEAST) / math.log(RESOLUTION))
        self.counts[place] = self.counts.get(place, 0) + 1
        self.total += 1

    def quantile(self, q: float) -> float | None:
        """The upper edge of the bucket that holds the q-quantile; None of nothing."""
        return self.ordered(max(math.ceil(q * self.total), 1)).upper if self.total else None

    def ordered(self, rank: int) -> Bounds:
        """Edges of the bucket that holds the value of this rank, the smallest's being 1."""
        seen = 0
        for place in sorted(self.counts):
            seen += self.counts[place]
            if seen >= rank:
                return Bounds(LEAST * RESOLUTION**place, LEAST * RESOLUTION ** (place + 1))
        raise ConfigError(f"no value of rank {rank}: there are {self.total}")

    def bounds(self, q: float, alpha: float) -> Bounds:
        """A confidence sequence for the q-quantile of values that are independent and alike.

        With k_1 the most and k_2 the fewest values below it that a Bernoulli(q) is not rejected by, at alpha
        / 2 each, it lies between the values of ranks k_1 and k_2 + 1; buckets make that 2 % wider on either
        side.

        Args:
            q: above 0, below 1.
            alpha: the chance that it is ever left.
        """
        n, level = self.total, math.log(2 / alpha)

        def rejects(below: int, *, above: bool) -> bool:
            seen = RateRatio(CONCENTRATION, {(q, 1.0): [n - below, below]})
            return seen.log_e(above=above) >= level

        few, many = -1, math.floor(q * n)  # the last count that is too small, and one that is not
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (middle, many) if rejects(middle, above=False) else (few, middle)
        enough, too_many = math.ceil(q * n), n + 1
        while too_many - enough > 1:
            middle = (enough + too_many) // 2
            enough, too_many = (enough, middle) if rejects(middle, above=True) else (middle, too_many)
        lower = self.ordered(few + 1).lower if few >= 0 and n else 0.0
        upper = self.ordered(too_many).upper if too_many <= n else math.inf
        return Bounds(lower, upper)

    def to_json(self) -> list[list[int]]:
        return [[place, count] for place, count in self.counts.items()]

    @classmethod
    def from_json(cls, rows: Sequence[Sequence[int]]) -> "LogHistogram":
        return cls({int(place): int(count) for place, count in rows}, sum(count for _, count in rows))
