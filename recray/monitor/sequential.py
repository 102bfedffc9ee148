"""Tests that may be looked at after every observation: e-processes, and the sequences that they invert to.

An e-process E starts at 1 and, where the null hypothesis holds, is expected not to grow. By Ville's
inequality the chance that it ever reaches 1 / alpha is at most alpha, however often one looks and whenever
one stops: Ramdas, Grünwald, Vovk & Shafer, Game-theoretic statistics and safe anytime-valid inference,
Statistical Science 38(4), 2023, https://arxiv.org/abs/2210.01948. Nothing here is asymptotic. What is kept
are counts, so an observation costs O(1), a look as many steps as there were different shares, and JSON loses
nothing.

Shapes: G nodes of the mixture, C cells of what is counted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from recray.arrays import Float64s
from recray.config import ConfigError

# Distances of log ratios from the null, each 15 % further: whatever the truth is, a node is near it.
DISTANCES_G: Float64s = np.geomspace(0.002, 8.0, 60)
FARTHEST = 12.0  # log ratio at which a bound is no longer looked for
HALVINGS = 22
PARTS = 20  # a success counts in twentieths

Cell = tuple[float, float]
"""The candidate's share when a user was assigned, and the part of a success that the user had."""


class Bounds(NamedTuple):
    """A confidence sequence at one moment."""

    lower: float
    upper: float


@dataclass
class RateRatio:
    """The ratio of two arms' means of an outcome between 0 and 1, by which arm each success fell into.

    A user is assigned to the candidate with a chance p that is known, its share of both arms, and has an
    outcome y. With means r_c and r_b, ratio rho = r_c / r_b, and y of 0 or 1, a success is the candidate's
    with chance theta(p, rho) = p rho / (p rho + 1 - p): the rates cancel, and with them whatever moves both,
    as hours do. With f(x; p, rho) the Bernoulli likelihood of theta, x_i whether user i is the candidate's,

        E(rho_0) = sum_g w_g prod_i [1 + y_i (f(x_i; p_i, rho_g) / f(x_i; p_i, rho_0) - 1)]

    over nodes rho_g on one side of rho_0. A user without success changes nothing. Given the past, the
    expectation of a factor is 1 + c (rho - rho_0), with c of the sign of rho_g - rho_0: above rho_0, E is a
    supermartingale wherever rho <= rho_0, and a martingale where they are equal; p_i may depend on all that
    came before.

    With y of 0 or 1 and even shares this is the beta-binomial test of Robbins, Ann. Math. Statist. 41, 1970,
    cut to one side, for the weights are those of a Beta(a, a) for rho / (rho + rho_0) at the nodes; with
    uneven or changing shares it is the same mixture over ratios. Conditioning on successes is that of Lindon
    & Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022,
    https://arxiv.org/abs/2011.03567, for rates that change with time; the factor for parts of a success is a
    bet of Waudby-Smith & Ramdas, Estimating means of bounded random variables by betting, JRSS B 86, 2024,
    https://arxiv.org/abs/2010.09686.

    Assumes: each user is assigned once, by p, and counts once. Two successes of one user are not two draws.

    Args:
        concentration: a; greater looks for smaller differences. A Beta(a, a) is about as wide as a log ratio
        of
            standard deviation sqrt(2 / a).
        counts: of each share and part: users of the baseline, and of the candidate.
    """

    concentration: float = 1.0
    counts: dict[Cell, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.concentration > 0:
            raise ConfigError(f"concentration must be above 0, got {self.concentration}")
        theta_G = 1 / (1 + np.exp(-DISTANCES_G))
        # The density of log rho, times the width of what a node stands for, which grows with its distance.
        log_G = self.concentration * np.log(theta_G * (1 - theta_G)) + np.log(DISTANCES_G)
        self._log_weights_G: Float64s = log_G - np.logaddexp.reduce(log_G)

    def add(self, share: float, candidate: bool, part: float = 1.0) -> None:
        """One user's outcome.

        Args:
            share: p, of the candidate among both arms, when the user was assigned.
            candidate: whether it was to the candidate.
            part: y, from 0 to 1, taken to the nearest twentieth: means are of what it is rounded to.

        Raises:
            ConfigError: a share that is not between 0 and 1, a part that is not from 0 to 1.
        """
        if not 0 < share < 1 or not 0 <= part <= 1:
            raise ConfigError(f"a share must lie between 0 and 1, a part from 0 to 1; got {share}, {part}")
        rounded = round(part * PARTS) / PARTS
        if rounded:
            self.counts.setdefault((share, rounded), [0, 0])[candidate] += 1

    @property
    def successes(self) -> float:
        """The sum of all parts."""
        return sum(part * sum(pair) for (_, part), pair in self.counts.items())

    def log_e(self, ratio: float = 1.0, *, above: bool) -> float:
        """Natural logarithm of E against a ratio of at most ``ratio``, or, not ``above``, of at least
        that."""
        if not ratio > 0:
            raise ConfigError(f"a ratio must be above 0, got {ratio}")
        if not self.counts:
            return 0.0
        share_C1, part_C1 = np.array(list(self.counts)).T[:, :, None]
        baseline_C, candidate_C = np.array(list(self.counts.values())).T
        odds_C1 = share_C1 / (1 - share_C1) * ratio
        times_G = np.exp(DISTANCES_G if above else -DISTANCES_G)
        baseline_CG = (1 + odds_C1) / (1 + odds_C1 * times_G)
        log_G = self._log_weights_G + baseline_C @ np.log1p(part_C1 * (baseline_CG - 1))
        log_G += candidate_C @ np.log1p(part_C1 * (times_G * baseline_CG - 1))
        return float(np.logaddexp.reduce(log_G))

    def bounds(self, alpha: float) -> Bounds:
        """All ratios that are not rejected at ``alpha`` / 2 on either side; by halving, for E falls (not
        ``above``: rises) with rho_0."""
        level = math.log(2 / alpha)
        return Bounds(*(math.exp(self._crossing(level, above=above)) for above in (True, False)))

    def estimate(self) -> float | None:
        """The ratio under which the candidate was to have as many successes as it has; None where an arm has
        none."""
        had = sum(part * pair[1] for (_, part), pair in self.counts.items())
        if not 0 < had < self.successes:
            return None
        low, high = -FARTHEST, FARTHEST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            expected = sum(
                part * sum(pair) / (1 + (1 - share) / share * math.exp(-middle))
                for (share, part), pair in self.counts.items()
            )
            low, high = (middle, high) if expected < had else (low, middle)
        return math.exp((low + high) / 2)

    def to_json(self) -> list[list[float]]:
        return [[*cell, *pair] for cell, pair in self.counts.items()]

    @classmethod
    def from_json(cls, rows: Sequence[Sequence[float]], concentration: float) -> "RateRatio":
        return cls(concentration, {(share, part): [int(b), int(c)] for share, part, b, c in rows})

    def _crossing(self, level: float, *, above: bool) -> float:
        """The log ratio up to which (not above: down to which) all are rejected; infinity where none is."""
        rejected, kept = (-FARTHEST, FARTHEST) if above else (FARTHEST, -FARTHEST)
        if self.log_e(math.exp(rejected), above=above) < level:
            return -math.inf if above else math.inf
        for _ in range(HALVINGS):
            middle = (rejected + kept) / 2
            if self.log_e(math.exp(middle), above=above) >= level:
                rejected = middle
            else:
                kept = middle
        return rejected


@dataclass
class SampleRatio:
    """Whether units fall to the arms by the shares that were meant.

    Of n_a units in arm a, n in all, with shares theta_a and a Dirichlet(k theta) mixture (Lindon & Malek
    2022, their test of a sample ratio):

        E = Gamma(k) / Gamma(k + n) prod_a Gamma(k theta_a + n_a) / Gamma(k theta_a) theta_a^-n_a

    Where shares change, each set of shares has counts of its own and E is the product: a martingale still,
    that learns anew after a change. Assumes that a unit's arm is drawn by the shares that hold when it is
    first seen.
    """

    concentration: float = 200.0
    counts: dict[tuple[float, ...], list[int]] = field(default_factory=dict)

    def add(self, shares: tuple[float, ...], arm: int) -> None:
        """One unit, by the shares of all arms (they add up to 1) and the place of its own."""
        self.counts.setdefault(shares, [0] * len(shares))[arm] += 1

    def log_e(self) -> float:
        """Natural logarithm of the e-process against the shares that were meant."""
        k, total = self.concentration, 0.0
        for shares, units in self.counts.items():
            total += math.lgamma(k) - math.lgamma(k + sum(units))
            for share, n in zip(shares, units, strict=True):
                total += math.lgamma(k * share + n) - math.lgamma(k * share) - n * math.log(share)
        return total

    def to_json(self) -> list[dict[str, Any]]:
        return [{"shares": list(shares), "units": units} for shares, units in self.counts.items()]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]], concentration: float = 200.0) -> "SampleRatio":
        return cls(concentration, {tuple(row["shares"]): list(row["units"]) for row in rows})


class Preference:
    """Which of two rankers wins more interleaved lists; lists without a winner say nothing.

    Without a preference a winner is either one with chance 1/2, by the coin that was thrown for this very
    list: so lists of one user count one by one, which successes of arms that users keep do not.
    """

    def __init__(self, concentration: float = 10.0) -> None:
        self._ratio = RateRatio(concentration)

    def add(self, candidate_clicks: int, baseline_clicks: int) -> None:
        """One list, by the clicks that each side's items had."""
        if candidate_clicks != baseline_clicks:
            self._ratio.add(0.5, candidate_clicks > baseline_clicks)

    @property
    def lists(self) -> int:
        """Lists that were won by either."""
        return round(self._ratio.successes)

    def log_e(self, *, candidate: bool) -> float:
        """Natural logarithm of the e-process for a preference for the candidate, or for the baseline."""
        return self._ratio.log_e(above=candidate)

    def bounds(self, alpha: float) -> Bounds:
        """Of the candidate's share of all lists that have a winner."""
        lower, upper = self._ratio.bounds(alpha)
        return Bounds(lower / (1 + lower), 1.0 if math.isinf(upper) else upper / (1 + upper))

    def to_json(self) -> list[list[float]]:
        return self._ratio.to_json()

    @classmethod
    def from_json(cls, rows: Sequence[Sequence[float]], concentration: float = 10.0) -> "Preference":
        seen = cls(concentration)
        seen._ratio = RateRatio.from_json(rows, concentration)
        return seen
