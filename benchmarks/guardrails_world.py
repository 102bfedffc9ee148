"""Traffic whose truth is known, for ``benchmarks.guardrails``: users who keep their arm, differ, come back.

A user brings 1, 20 or 100 requests (60, 30 and 10 % of users), some seconds apart, and clicks by a propensity
of his own: Beta(0.4, 1.6), 0.2 on average, most near 0 and some near 1. Empty answers fall on few users,
again and again (no history); answers by a fallback come in bursts, errors here and there. Milliseconds are
lognormal times a user's factor, a load that wanders (AR(1), by the second) and bursts of some seconds, of the
whole machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recray.arrays import Float64s
from recray.serve.traffic.judge import Judge

REQUESTS, OF_USERS = (1, 20, 100), (0.6, 0.3, 0.1)
BETWEEN_S = 5.0
BURST_EVERY_S, BURST_S, BURST_TIMES = 60.0, 4.0, 3.0
RATE = 50.0  # requests a second, of both arms


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What is wrong with the candidate; as it stands, nothing."""

    slower: float = 1.0
    clicks: float = 1.0  # times the chance of a click
    errors: float = 0.0  # share of requests, on top
    empty: float = 0.0
    share: float = 0.5  # of users that fall to the candidate, where a half was meant
    ramp_s: float = 0.0  # until then, a tenth of new users


class Request(NamedTuple):
    at: float
    user: str
    candidate: bool
    took_ms: float
    failed: bool
    empty: bool
    fell_back: bool
    clicked_at: float | None


def traffic(planted: Planted, rng: np.random.Generator, seconds: float) -> list[Request]:
    """All requests of both arms, in order; before the first there were others, so that the rate is even."""
    mean = float(np.dot(REQUESTS, OF_USERS))
    long_s = max(REQUESTS) * BETWEEN_S
    num_users = int(RATE / mean * (seconds + long_s))
    sizes_U = rng.choice(REQUESTS, num_users, p=OF_USERS)
    user_N = np.repeat(np.arange(num_users), sizes_U)
    begins_U = rng.uniform(-long_s, seconds, num_users)
    gaps_N = rng.exponential(BETWEEN_S, len(user_N))
    firsts_U = np.r_[0, np.cumsum(sizes_U)[:-1]]
    waited_N = np.cumsum(gaps_N)
    at_N = begins_U[user_N] + waited_N - waited_N[firsts_U][user_N]
    keep_N = (at_N >= 0) & (at_N < seconds)
    at_N, user_N = at_N[keep_N], user_N[keep_N]
    order_N = np.argsort(at_N)
    return _requests(planted, rng, at_N[order_N], user_N[order_N], num_users)


def _requests(
    planted: Planted, rng: np.random.Generator, at_N: Float64s, user_N: np.ndarray, num_users: int
) -> list[Request]:
    n = len(at_N)
    new_U, first_U = np.unique(user_N, return_index=True)
    share_U = np.full(num_users, planted.share)
    share_U[new_U[at_N[first_U] < planted.ramp_s]] = 0.1
    candidate_N = (rng.random(num_users) < share_U)[user_N]
    click_N = rng.beta(0.4, 1.6, num_users)[user_N] * np.where(candidate_N, planted.clicks, 1.0)
    clicked_N = rng.random(n) < click_N
    clicked_at_N = at_N + rng.exponential(8.0, n)
    load_S, burst_S = _load(rng, int(at_N[-1]) + 2 if n else 1)
    second_N = at_N.astype(int)
    took_N = 60 * np.exp(rng.normal(0, 0.4, n) + rng.normal(0, 0.2, num_users)[user_N] + load_S[second_N])
    took_N = took_N * np.where(candidate_N, planted.slower, 1.0)
    failed_N = rng.random(n) < 5e-4 + planted.errors * candidate_N
    rarely_N = np.where(rng.random(num_users) < 0.02, 0.5, 0.001)[user_N]
    empty_N = rng.random(n) < rarely_N + planted.empty * candidate_N
    fell_back_N = rng.random(n) < np.where(burst_S[second_N], 0.1, 0.001)
    columns = (at_N, user_N, candidate_N, took_N, failed_N, empty_N, fell_back_N, clicked_N, clicked_at_N)
    return [
        Request(at, str(user), c, ms, bad, none, back, when if click else None)
        for at, user, c, ms, bad, none, back, click, when in zip(*(x.tolist() for x in columns), strict=True)
    ]


def _load(rng: np.random.Generator, seconds: int) -> tuple[Float64s, np.ndarray]:
    """Of each second: the logarithm of what times are multiplied with, and whether it is in a burst."""
    load_S, burst_S = np.zeros(seconds), np.zeros(seconds, bool)
    steps_S = rng.normal(0, 0.1, seconds)
    for second in range(1, seconds):
        load_S[second] = 0.95 * load_S[second - 1] + steps_S[second]
    for begin in np.flatnonzero(rng.random(seconds) < 1 / BURST_EVERY_S):
        burst_S[begin : begin + 1 + int(rng.exponential(BURST_S))] = True
    return load_S + np.log(BURST_TIMES) * burst_S, burst_S


class Told(NamedTuple):
    """A moment of an experiment at which the judge is asked."""

    now: float
    requests: int
    users: int


def played(judge: Judge, requests: list[Request], every_s: float) -> Iterator[Told]:
    """Tells the judge of all that happens, in order, and stops for a verdict every so many seconds."""
    clicks = sorted((each.clicked_at, each.user) for each in requests if each.clicked_at is not None)
    place, asked_at, users = 0, every_s, set[str]()
    for number, each in enumerate(requests):
        while each.at >= asked_at or (place < len(clicks) and clicks[place][0] <= each.at):
            if place < len(clicks) and clicks[place][0] <= min(each.at, asked_at):
                judge.outcome(clicks[place][1], "click", clicks[place][0])
                place += 1
            else:
                yield Told(asked_at, number, len(users))
                asked_at += every_s
        users.add(each.user)
        judge.exposed(
            "candidate" if each.candidate else "baseline",
            each.user,
            each.at,
            each.took_ms,
            failed=each.failed,
            empty=each.empty,
            fell_back=each.fell_back,
        )
