"""For ``benchmarks.guardrails``: other ways to look at the same data, and users that each of them needs.

``ville`` (optional) is the oracle of sequential tests; what it is not told of is that users come back, so it
gets users who bring one request each. Interleaving is compared with A/B on one truth: items with a relevance,
two rankers that see it through noise, users who look at place r with probability 1 / r and click by
relevance.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.guardrails_world import Request
from recray.arrays import Bools
from recray.monitor.quantiles import LogHistogram
from recray.monitor.sequential import Preference, RateRatio
from recray.serve.traffic.interleaving import credit, team_draft

ALPHA = 0.05
LEVEL = math.log(1 / ALPHA)
USERS = 40_000
STEP = 50
NUM_ITEMS, K = 50, 10

Stops = Callable[[Bools, Bools], int | None]
"""Of users' arms and successes: how many users were needed, None if all were not enough."""


def oracle() -> ModuleType | None:
    try:
        return importlib.import_module("ville")
    except ImportError:
        return None


def first_crossing(ratio: RateRatio, candidate_U: Bools, success_U: Bools, *, above: bool) -> int | None:
    """Users until the e-process has spoken, looked at every fifty."""
    for number in range(0, len(success_U), STEP):
        upto = slice(number, number + STEP)
        for candidate in candidate_U[upto][success_U[upto]].tolist():
            ratio.add(0.5, candidate)
        if ratio.log_e(above=above) >= LEVEL:
            return min(number + STEP, len(success_U))
    return None


def tests() -> dict[str, Stops]:
    """Tests for fewer clicks, by name; ville's have two sides, so they get twice the alpha."""

    def ours(candidate_U: Bools, success_U: Bools) -> int | None:
        return first_crossing(RateRatio(20.0), candidate_U, success_U, above=False)

    ville = oracle()
    if ville is None:
        return {"ours": ours}

    def bernoulli(prior: float) -> Stops:
        def stops(candidate_U: Bools, success_U: Bools) -> int | None:
            test = ville.BernoulliTest(0.5, alpha=2 * ALPHA, prior=(prior, prior))
            at = test.fit(candidate_U[success_U].astype(float)).stopping_time()
            return None if at is None else int(np.flatnonzero(success_U)[at - 1]) + 1

        return stops

    def ab(kind: str, **options: Any) -> Stops:
        def stops(candidate_U: Bools, success_U: Bools) -> int | None:
            test = getattr(ville, kind)(alpha=2 * ALPHA, propensity=0.5, **options)
            at: int | None = test.fit(success_U.astype(float), candidate_U.astype(float)).stopping_time()
            return at

        return stops

    return {
        "ours": ours,
        "ville Bernoulli, Beta(1, 1)": bernoulli(1.0),
        "ville Bernoulli, Beta(20, 20)": bernoulli(20.0),
        "ville betting": ab("BettingABTest", grid=1000),
        "ville asymptotic": ab("AsymptoticABTest"),
    }


def power(runs: int) -> dict[str, dict[str, Any]]:
    """Users that each test needs for a fifth fewer clicks at a rate of 0.2, and how often it stops equal
    arms."""
    found: dict[str, dict[str, list[int | None]]] = {}
    for seed in range(runs):
        for truth, rate in (("worse", 0.16), ("equal", 0.2)):
            rng = np.random.default_rng([5, seed])
            candidate_U = rng.random(USERS) < 0.5
            success_U = rng.random(USERS) < np.where(candidate_U, rate, 0.2)
            for name, stops in tests().items():
                found.setdefault(name, {}).setdefault(truth, []).append(stops(candidate_U, success_U))
    return {
        name: {
            "users": summary(by["worse"]),
            "equal_stopped": sum(at is not None for at in by["equal"]),
        }
        for name, by in found.items()
    }


def summary(stops: Sequence[float | None]) -> dict[str, float | None]:
    """Median and 90 % quantile of where runs stopped; those that did not come last."""
    values = sorted(math.inf if at is None else at for at in stops)
    median, late = (values[math.ceil(q * len(values)) - 1] for q in (0.5, 0.9))
    return {
        "median": None if math.isinf(median) else median,
        "p90": None if math.isinf(late) else late,
        "stopped": sum(at is not None for at in stops),
    }


def rankings(rng: np.random.Generator, users: int) -> tuple[Any, Any, Any]:
    """Of each user: the relevance of items, and two rankers' best ten; the second sees less of it."""
    relevance_UI = rng.beta(1, 4, (users, NUM_ITEMS))
    noise_UI = rng.normal(size=(users, NUM_ITEMS))
    good_UK = np.argsort(-(relevance_UI + 0.1 * noise_UI), axis=1)[:, :K]
    bad_UK = np.argsort(-(relevance_UI + 0.2 * rng.normal(size=noise_UI.shape)), axis=1)[:, :K]
    return relevance_UI, good_UK, bad_UK


def clicked(rng: np.random.Generator, relevance_K: Any) -> Any:
    return np.flatnonzero(rng.random(K) < relevance_K * 0.3 / np.arange(1, K + 1))


def interleaving(runs: int) -> dict[str, Any]:
    """Users until the worse ranker is known to be worse: by interleaved lists, and by A/B."""
    interleaved, ab, rates = [], [], []
    for seed in range(runs):
        rng = np.random.default_rng([6, seed])
        relevance_UI, good_UK, bad_UK = rankings(rng, USERS)
        preference, stopped = Preference(), None
        for user in range(USERS):
            sides = [[str(item) for item in each[user].tolist()] for each in (good_UK, bad_UK)]
            shown, teams = team_draft(sides[0], sides[1], K, rng)
            preference.add(*credit(teams, clicked(rng, relevance_UI[user, np.array(shown, int)]).tolist()))
            if user % STEP == STEP - 1 and preference.log_e(candidate=False) >= LEVEL:
                stopped = user + 1
                break
        interleaved.append(stopped)
        candidate_U: Bools = rng.random(USERS) < 0.5
        shown_UK = np.where(candidate_U[:, None], bad_UK, good_UK)
        chance_UK = np.take_along_axis(relevance_UI, shown_UK, 1) * 0.3 / np.arange(1, K + 1)
        success_U: Bools = np.any(rng.random((USERS, K)) < chance_UK, axis=1)
        rates.append([success_U[~candidate_U].mean(), success_U[candidate_U].mean()])
        ab.append(first_crossing(RateRatio(20.0), candidate_U, success_U, above=False))
    good, bad = np.mean(rates, axis=0).round(4).tolist()
    return {"rates": [good, bad], "interleaved": summary(interleaved), "ab": summary(ab)}


class Naive:
    """Designs that are not exact where users keep their arm, each with alpha 0.05 of its own."""

    NAMES = ("any click in each window", "every click", "p95 sequences of requests")

    def __init__(self) -> None:
        self._windows, self._clicks = RateRatio(20.0), RateRatio(20.0)
        self._times = [LogHistogram(), LogHistogram()]

    def told(self, requests: Sequence[Request]) -> list[str]:
        """All requests of one window; which designs see a difference after it."""
        for candidate in {each.user: each.candidate for each in requests if each.clicked_at}.values():
            self._windows.add(0.5, candidate)
        for each in requests:
            self._times[each.candidate].add(each.took_ms)
            if each.clicked_at:
                self._clicks.add(0.5, each.candidate)
        speaks = [each.log_e(above=False) >= LEVEL for each in (self._windows, self._clicks)]
        bounds = [each.bounds(0.95, ALPHA) for each in self._times]
        speaks.append(bounds[1].lower > bounds[0].upper)
        return [name for name, spoke in zip(self.NAMES, speaks, strict=True) if spoke]
