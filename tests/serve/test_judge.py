"""Verdicts: planted candidates, who counts and when, and that a restart forgets nothing."""

import json
import math
from typing import Any

import numpy as np
import pytest

from benchmarks.guardrails_world import Planted, played, traffic
from recray.config import ConfigError
from recray.serve.traffic.guardrails import CHECKS, Guardrails, guardrails_of
from recray.serve.traffic.judge import LEAST_TIMES, Judge, Verdict

SHARES = {"baseline": 0.5, "candidate": 0.5}
QUICK = Guardrails(least_users=20, least_s=0, clicks_margin=0.5, slowdown=2.0)


def decided(planted: Planted, seconds: float, rails: Guardrails | None = None, seed: int = 0) -> Verdict:
    """The first verdict that ends the experiment, or the last one."""
    judge = Judge(SHARES, rails)
    verdict = judge.verdict(0)
    for told in played(judge, traffic(planted, np.random.default_rng([7, seed]), seconds), 20.0):
        verdict = judge.verdict(told.now)
        if verdict.final or verdict.action == "promote":
            break
    return verdict


def one_answer_each(judge: Judge, users: range, **met: bool) -> None:
    for user in users:
        judge.exposed("candidate" if user % 2 else "baseline", str(user), user / 10, 50.0, **met)


def check(verdict: Verdict, name: str) -> Any:
    return next(each for each in verdict.checks if each.name == name)


@pytest.mark.parametrize(
    ("planted", "action", "says"),
    [
        (Planted(errors=0.01), "roll back", "more errors"),
        (Planted(empty=0.05), "roll back", "more empty answers"),
        (Planted(slower=1.3), "roll back", "is slower: p"),
        (Planted(clicks=0.6), "roll back", "is clicked less"),
        (Planted(share=0.6), "hold", "no other number can be trusted"),
    ],
)
def test_what_is_planted_is_found(planted: Planted, action: str, says: str) -> None:
    verdict = decided(planted, 1200)
    assert (verdict.action, says in verdict.reason) == (action, True), verdict.reason


def test_an_equal_candidate_is_promoted_once_it_has_shown_enough() -> None:
    rails = Guardrails(clicks_margin=0.3, slowdown=1.3)
    verdict = decided(Planted(), 1500, rails)
    assert verdict.action == "promote", verdict.reason
    assert check(verdict, "clicks").bounds.lower < 1 < check(verdict, "clicks").bounds.upper


def test_a_better_candidate_is_never_rolled_back_for_it() -> None:
    assert decided(Planted(clicks=1.3, slower=0.7), 900).action == "promote"


def test_what_a_promotion_waits_for_is_said() -> None:
    judge = Judge(SHARES)
    assert judge.verdict(0).reason.startswith(
        "Not enough yet: 0 of 1,000 users in the smaller arm; 0 of 600 s"
    )
    one_answer_each(judge, range(100))
    verdict = judge.verdict(100, ramped=False)
    assert verdict.action == "hold"
    assert "50 of 1,000 users" in verdict.reason
    assert "clicks are shown to be 0.00 times the baseline's, 0.90 is asked for" in verdict.reason
    assert "the ramp goes on" in verdict.reason


def test_a_user_counts_once_however_often_he_fails() -> None:
    judge = Judge(SHARES)
    one_answer_each(judge, range(200))
    for _ in range(100):
        judge.exposed("candidate", "1", 30, 50.0, failed=True)
    verdict = judge.verdict(40)
    assert judge.numbers(40)["arms"]["candidate"]["rates"]["errors"] == 0.5
    assert verdict.action == "hold"
    assert check(verdict, "errors").log_e < math.log(2)
    for user in range(3, 25, 2):
        judge.exposed("candidate", str(user), 31, 50.0, failed=True)
    assert judge.verdict(40).action == "roll back"


def test_more_than_chance_but_less_than_matters_does_not_roll_back() -> None:
    judge = Judge(SHARES, Guardrails(errors=0.2))
    one_answer_each(judge, range(200))
    for user in range(1, 25, 2):
        judge.exposed("candidate", str(user), 31, 50.0, failed=True)
    errors = check(judge.verdict(40), "errors")
    assert errors.log_e > errors.level
    assert not errors.crossed


def test_clicks_count_by_answer_in_the_window_and_once_it_has_closed() -> None:
    judge = Judge(SHARES, Guardrails(window_s=60))
    for at in (0, 10, 20, 30):
        judge.exposed("candidate", "u", at, 50.0)
    judge.outcome("u", "click", 5)
    judge.outcome("u", "dwell", 6)
    judge.outcome("stranger", "click", 7)
    judge.outcome("u", "click", 60)  # too late
    assert judge.numbers(59)["arms"]["candidate"]["users_closed"] == 0
    told = judge.numbers(60)["arms"]["candidate"]
    assert (told["users_closed"], told["rates"]["clicks"]) == (1, 0.25)
    assert told["outcomes"] == {"click": 2, "dwell": 1}


@pytest.mark.parametrize("ahead_s", [30, 86_400])
def test_a_clock_that_is_ahead_or_set_back_keeps_nothing_open(ahead_s: float) -> None:
    judge = Judge(SHARES, Guardrails(window_s=60))
    judge.exposed("baseline", "ahead", 1_000 + ahead_s, 50.0)
    for user in range(100):
        judge.exposed("candidate" if user % 2 else "baseline", str(user), 1_000 + user / 10, 50.0)
    judge.verdict(1_010)
    judge.verdict(1_130)
    told = judge.numbers(1_130)
    assert told["age_s"] >= 120
    assert [told["arms"][arm]["users_closed"] for arm in SHARES] == [51, 50]


def test_an_answer_is_slow_by_those_before_it() -> None:
    judge = Judge(SHARES, Guardrails(window_s=60))
    for user in range(LEAST_TIMES - 1):
        judge.exposed("baseline", str(user), 0, 10.0)
    judge.verdict(60)  # of these nothing is known
    judge.exposed("baseline", "the hundredth", 61, 500.0)
    for user in range(3):
        judge.exposed("baseline", f"later {user}", 62, 500.0)
    judge.verdict(130)
    slow = judge._evidence[0].ratios["p95"].counts
    assert sum(map(sum, slow.values())) == 3, "the hundredth made the threshold that the later ones meet"


def test_more_clicks_than_answers_are_as_many() -> None:
    judge = Judge(SHARES)
    judge.exposed("baseline", "u", 0, 50.0)
    for at in (1, 2, 3):
        judge.outcome("u", "purchase", at)
    assert judge.numbers(60)["arms"]["baseline"]["rates"]["clicks"] == 1


def test_who_moves_counts_in_the_first_arm_only() -> None:
    judge = Judge(SHARES)
    judge.exposed("baseline", "u", 0, 50.0)
    judge.exposed("candidate", "u", 1, 50.0, failed=True)
    told = judge.numbers(2)
    assert told["requests_of_moved_users"] == 1
    assert [told["arms"][arm]["users"] for arm in SHARES] == [1, 0]
    assert check(judge.verdict(2), "errors").log_e == 0


def test_users_beyond_the_bound_are_not_counted_and_the_verdict_says_so() -> None:
    judge = Judge(SHARES, Guardrails(least_users=10, most_users=50))
    one_answer_each(judge, range(80), failed=True)
    told = judge.numbers(100)
    assert (told["users"], told["requests_of_users_left_out"]) == (50, 30)
    assert "no more than 50 users are taken in" in judge.verdict(100).reason


def test_a_decision_stands() -> None:
    judge = Judge(SHARES)
    one_answer_each(judge, range(200))
    for user in range(1, 41, 2):
        judge.exposed("candidate", str(user), 30, 50.0, failed=True)
    first = judge.verdict(31)
    assert first.action == "roll back"
    for user in range(0, 200, 2):
        judge.exposed("baseline", str(user), 40, 50.0, failed=True)
    assert judge.verdict(41)[:2] == first[:2]
    assert judge.numbers(41)["decided"] == {"candidate": ["roll back", first.reason]}


def test_shares_of_a_ramp_are_those_of_the_day_a_user_came() -> None:
    """90 baseline users, then as many of either: nothing is wrong with that, unless the ramp is not told."""
    told, untold = (Judge({"baseline": 9, "candidate": 1}) for _ in range(2))
    rng = np.random.default_rng(0)
    for judge in (told, untold):
        for user in range(4000):
            share = 0.1 if user < 1000 else 0.5
            if judge is told and user == 1000:
                judge.ramp({"baseline": 1, "candidate": 1})
            judge.exposed("candidate" if rng.random() < share else "baseline", str(user), user, 50.0)
    assert not told.numbers(4100)["sample_ratio"]["crossed"]
    assert untold.numbers(4100)["sample_ratio"]["crossed"]


def test_several_candidates_are_judged_one_by_one_against_the_first_arm() -> None:
    judge = Judge({"a": 1, "b": 1, "c": 2})
    rng = np.random.default_rng(0)
    for user in range(1200):
        arm = rng.choice(["a", "b", "c"], p=[0.25, 0.25, 0.5])
        judge.exposed(arm, str(user), user / 10, 50.0, fell_back=bool(arm == "c" and rng.random() < 0.1))
    assert judge.verdict(130, arm="b").action == "hold"
    verdict = judge.verdict(130, arm="c")
    assert verdict.action == "roll back"
    assert "answers by a fallback" in verdict.reason
    assert check(verdict, "fallbacks").level == pytest.approx(math.log((2 * len(CHECKS) + 1) / 0.05))
    with pytest.raises(ConfigError, match=r"'a' is the baseline; candidates: b, c"):
        judge.verdict(130, arm="a")


def test_a_restart_changes_nothing() -> None:
    requests = traffic(Planted(clicks=0.8, errors=0.002), np.random.default_rng(3), 400)
    whole, part = Judge(SHARES, QUICK), Judge(SHARES, QUICK)
    for number, each in enumerate(requests):
        if number == 9000:
            part = Judge.from_json(json.loads(json.dumps(part.to_json(), allow_nan=False)))
        for one in (whole, part):
            arm = "candidate" if each.candidate else "baseline"
            one.exposed(arm, each.user, each.at, each.took_ms, failed=each.failed)
            if each.clicked_at is not None:
                one.outcome(each.user, "click", each.at)
            if number % 2000 == 0:
                one.verdict(each.at)
    assert part.to_json() == whole.to_json()
    assert part.verdict(400) == whole.verdict(400)
    assert json.dumps(part.numbers(400), allow_nan=False) == json.dumps(whole.numbers(400), allow_nan=False)


def test_what_is_written_at_once_is_json() -> None:
    judge = Judge(SHARES)
    judge.exposed("baseline", "u", 0, 50.0)
    again = Judge.from_json(json.loads(json.dumps(judge.to_json(), allow_nan=False)))
    assert again.to_json() == judge.to_json()
    assert json.dumps(judge.numbers(1), allow_nan=False)


def test_equal_arms_are_stopped_as_rarely_as_alpha_says() -> None:
    """Users who keep their arm, differ and come back, in bursts. ``benchmarks.guardrails`` has 200 runs."""
    rails = Guardrails(alpha=0.2, clicks_margin=None, least_s=1e9)
    ended = [decided(Planted(), 300, rails, seed) for seed in range(25)]
    assert sum(verdict.final for verdict in ended) <= 5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"alpha": 0.0}, "alpha must be a share"),
        ({"clicks_margin": 1.0}, "clicks_margin must be"),
        ({"slowdown": 0.9}, "slowdown must be at least 1"),
        ({"window_s": 0.0}, "window_s must be above 0"),
        ({"least_users": 0}, "least_users must be between"),
    ],
)
def test_guardrails_that_cannot_be_are_refused(settings: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Guardrails(**settings)


@pytest.mark.parametrize("value", [math.inf, math.nan, 2.5])
def test_limits_that_are_no_whole_numbers_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="least_users must be int, got"):
        guardrails_of({"least_users": value})


def test_arms_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="a baseline and a candidate"):
        Judge({"baseline": 1.0})
    with pytest.raises(ConfigError, match="shares must be above 0"):
        Judge({"baseline": 1.0, "candidate": 0.0})
    judge = Judge(SHARES)
    with pytest.raises(ConfigError, match="no arm 'candidat', did you mean 'candidate'"):
        judge.exposed("candidat", "u", 0, 50.0)
    with pytest.raises(ConfigError, match="keeps its arms"):
        judge.ramp({"baseline": 1.0, "other": 1.0})
