"""The traffic that the judge is measured on is what it says."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.guardrails_peers import Naive, first_crossing, interleaving, summary
from benchmarks.guardrails_world import RATE, Planted, played, traffic
from recray.monitor.sequential import RateRatio
from recray.serve.traffic.judge import Judge


def test_users_keep_their_arm_and_differ() -> None:
    requests = traffic(Planted(), np.random.default_rng(0), 400)
    assert len(requests) == pytest.approx(400 * RATE, rel=0.2)
    arms: dict[str, set[bool]] = {}
    for each in requests:
        arms.setdefault(each.user, set()).add(each.candidate)
    assert {len(arm) for arm in arms.values()} == {1}
    assert sum(arm == {True} for arm in arms.values()) / len(arms) == pytest.approx(0.5, abs=0.05)
    assert max(Counter(each.user for each in requests).values()) > 50
    assert [each.at for each in requests] == sorted(each.at for each in requests)


def test_what_is_planted_is_there() -> None:
    planted = Planted(slower=1.3, clicks=0.8, errors=0.01, empty=0.05)
    requests = traffic(planted, np.random.default_rng(1), 2000)
    sides = [[each for each in requests if each.candidate is candidate] for candidate in (False, True)]
    slow = [np.median([each.took_ms for each in side]) for side in sides]
    assert slow[1] / slow[0] == pytest.approx(1.3, abs=0.1)
    clicks, errors, empty = (
        [np.mean([field(each) for each in side]) for side in sides]
        for field in (lambda r: r.clicked_at is not None, lambda r: r.failed, lambda r: r.empty)
    )
    assert clicks[1] / clicks[0] == pytest.approx(0.8, abs=0.1)
    assert errors[1] - errors[0] == pytest.approx(0.01, abs=0.002)
    assert empty[1] - empty[0] == pytest.approx(0.05, abs=0.02)


def test_a_ramp_moves_new_users_only() -> None:
    requests = traffic(Planted(ramp_s=200), np.random.default_rng(2), 400)
    arm = {each.user: each for each in reversed(requests)}
    for early, share in ((True, 0.1), (False, 0.5)):
        of = [each.candidate for each in arm.values() if (each.at < 200) is early]
        assert np.mean(of) == pytest.approx(share, abs=0.06)


def test_the_judge_is_told_everything_in_order() -> None:
    requests = traffic(Planted(), np.random.default_rng(3), 100)
    judge = Judge({"baseline": 1, "candidate": 1})
    told = list(played(judge, requests, 10.0))
    assert [each.now for each in told] == [10.0 * step for step in range(1, len(told) + 1)]
    numbers = judge.numbers(100)["arms"]
    assert sum(arm["requests"] for arm in numbers.values()) == len(requests)
    clicked = sum(each.clicked_at is not None and each.clicked_at <= requests[-1].at for each in requests)
    assert sum(arm["outcomes"]["click"] for arm in numbers.values()) == clicked


def test_peers_find_what_is_there() -> None:
    rng = np.random.default_rng(4)
    candidate_U = rng.random(3000) < 0.5
    success_U = rng.random(3000) < np.where(candidate_U, 0.1, 0.3)
    stopped = first_crossing(RateRatio(20.0), candidate_U, success_U, above=False)
    assert stopped is not None
    assert stopped < 1500
    assert first_crossing(RateRatio(20.0), candidate_U, success_U, above=True) is None
    assert summary([5, None, 1]) == {"median": 5, "p90": None, "stopped": 2}
    found = interleaving(1)
    assert found["rates"][0] > found["rates"][1]
    assert found["interleaved"]["stopped"] == 1


def test_other_designs_see_a_great_difference() -> None:
    other, seen = Naive(), set[str]()
    requests = traffic(Planted(clicks=0.2, slower=3.0), np.random.default_rng(5), 300)
    for begin in range(0, len(requests), 3000):
        seen.update(other.told(requests[begin : begin + 3000]))
    assert seen == set(Naive.NAMES)
