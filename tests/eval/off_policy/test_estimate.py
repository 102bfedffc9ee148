"""Off-policy estimates: what they hold, against obp, and when they are refused."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.off_policy_peers import SLATE, differences
from benchmarks.off_policy_world import CARD, World
from recray.config import ConfigError
from recray.eval.off_policy.estimate import Estimate, NoSupportError, estimate, gain, shown
from recray.eval.off_policy.estimators import METHODS, Model, terms
from recray.eval.off_policy.logged_lists import LoggedLists

ALL = (*METHODS, "cascade_dr")


def one_place(rewards: list[float], logged: list[float], target: list[float]) -> LoggedLists:
    """Single decisions, each of another user."""
    columns = [np.array(values)[:, None] for values in (rewards, logged, target)]
    users = np.arange(len(rewards))
    return LoggedLists(
        user_ids_B=users,
        rewards_BK=columns[0],
        logged_BK=columns[1],
        target_BK=columns[2],
        is_shown_BK=np.ones((len(rewards), 1), bool),
        card=CARD,
    )


def value(method: str, lists: LoggedLists, model: Model | None = None) -> float:
    over_B, under_B = terms(method, lists, model)
    return float(over_B.sum() / under_B.sum())


def test_single_decisions_are_the_formulas() -> None:
    lists = one_place([1, 0, 1, 1], [0.5, 0.5, 0.25, 0.8], [0.25, 0.5, 0.5, 0.4])
    weights, rewards = np.array([0.5, 1.0, 2.0, 0.5]), np.array([1, 0, 1, 1])
    assert value("ips", lists) == pytest.approx((weights * rewards).mean(), rel=1e-15)
    assert value("snips", lists) == pytest.approx((weights * rewards).sum() / weights.sum(), rel=1e-15)
    q, v = np.array([0.9, 0.2, 0.5, 0.4]), np.array([0.5, 0.6, 0.7, 0.8])
    model = Model(q[:, None], v[:, None])
    assert value("cascade_dr", lists, model) == pytest.approx((v + weights * (rewards - q)).mean(), rel=1e-15)
    assert value("direct", lists, model) == pytest.approx(v.mean(), rel=1e-15)


def test_places_after_the_end_of_a_list_count_for_nothing() -> None:
    lists, model, _ = World.make(0.4).log(0)
    is_shown_BK = lists.is_shown_BK.copy()
    is_shown_BK[::3, 2:] = False
    cut = replace(lists, is_shown_BK=is_shown_BK)
    other_BK = np.where(is_shown_BK, 1.0, np.nan)
    wild = replace(
        cut,
        rewards_BK=lists.rewards_BK * other_BK,
        logged_BK=lists.logged_BK * other_BK,
        target_BK=lists.target_BK * other_BK,
    )
    for method in ALL:
        assert value(method, wild, model) == value(method, cut, model)
        assert value(method, cut, model) < value(method, lists, model)


def test_the_served_policy_is_judged_as_what_it_earned() -> None:
    lists, _, _ = World.make(0.4).log(0)
    same = replace(lists, target_BK=lists.logged_BK)
    for method in METHODS:
        found = estimate(same, method)
        assert found.reward == pytest.approx(shown(lists), rel=1e-9)
        assert found.effective_lists == pytest.approx(len(lists))


def test_equal_to_obp() -> None:
    pytest.importorskip("obp.ope")
    for seed in range(3):
        found = differences(World.make(0.7, seed))
        assert found.keys() == SLATE.keys()
        assert max(found.values()) < 1e-12


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    world, holds = World.make(0.4), Counter[str]()
    truth = world.truth()
    for seed in range(100):
        lists, model, _ = world.log(seed, users=200)
        for method in ALL:
            _, low, high = estimate(lists, method, model, num_resamples=400).reward
            holds[method] += low <= truth <= high
    assert min(holds[method] for method in ALL) >= 88  # at 95 %, by chance once in a thousand


def test_an_end_of_an_interval_is_never_nearer_than_without_skew() -> None:
    lists, _, _ = World.make(0.7).log(0)
    found = terms("ips", lists)
    _, user_B = np.unique(lists.user_ids_B, return_inverse=True)
    sums_U = np.bincount(user_B, weights=found.over_B)
    lists_U = np.bincount(user_B)
    mean = sums_U.sum() / lists_U.sum()
    error = np.sqrt(((sums_U - mean * lists_U) ** 2).sum()) / lists_U.sum()
    value, low, high = estimate(lists, "ips").reward
    assert value - low == pytest.approx(1.96 * error, rel=1e-9)  # which the long tail would make shorter
    assert high - value > 1.05 * (value - low)


def test_what_the_log_never_shows_is_refused() -> None:
    lists, _, _ = World.make(3.0).log(0)
    with pytest.raises(NoSupportError, match="would show what the log never does"):
        estimate(lists)
    never = replace(lists, target_BK=np.where(lists.is_shown_BK, 0.0, 1.0))
    with pytest.raises(NoSupportError, match=r"at least 100% of its lists are not covered"):
        estimate(never)


def test_a_policy_is_judged_that_shows_little_beside_what_is_logged() -> None:
    def judged(covered: float) -> Estimate:
        return estimate(one_place([1.0, 0.0] * 200, [1.0] * 400, [covered] * 400), "ips")

    assert judged(0.97).reward.mean == pytest.approx(0.485)
    with pytest.raises(NoSupportError, match=r"at least 10% of its lists are not covered"):
        judged(0.90)


def test_what_few_lists_tell_is_refused() -> None:
    lists, _, _ = World.make(0.7).log(0, users=40)
    with pytest.raises(NoSupportError, match="and 100 are needed"):
        estimate(lists)
    lists, _, _ = World.make(0.4).log(0)
    of_one = replace(lists, user_ids_B=np.zeros(len(lists), np.int64))
    with pytest.raises(NoSupportError, match="1 users are too few for an interval, 30 are needed"):
        estimate(of_one)


def test_lists_without_chance_are_refused() -> None:
    lists, _, _ = World.make(0.4).log(0)
    with pytest.raises(NoSupportError, match=r"shown without chance.*explore\.policy"):
        estimate(replace(lists, logged_BK=np.full(lists.logged_BK.shape, np.nan)))
    with pytest.raises(NoSupportError, match="chance to be shown was 0"):
        estimate(replace(lists, logged_BK=np.zeros(lists.logged_BK.shape)))
    with pytest.raises(NoSupportError, match="no list was logged"):
        estimate(one_place([], [], []))


def test_wrong_numbers_are_refused() -> None:
    lists = one_place([1.0], [0.5], [0.5])
    with pytest.raises(ConfigError, match=r"logged chances must be between 0 and 1, got 1\.5"):
        replace(lists, logged_BK=np.array([[1.5]]))
    with pytest.raises(ConfigError, match="rewards must be finite"):
        replace(lists, rewards_BK=np.array([[np.inf]]))
    with pytest.raises(ConfigError, match="target chances must be known"):
        replace(lists, target_BK=np.array([[np.nan]]))
    with pytest.raises(ConfigError, match=r"the shape \(1, 2\)"):
        replace(lists, target_BK=np.ones((1, 2)))
    with pytest.raises(ConfigError, match="no method 'dm'; valid: ips, snips"):
        terms("dm", lists)
    with pytest.raises(ConfigError, match="needs a model of rewards"):
        terms("cascade_dr", lists)


def test_estimates_of_different_logs_are_not_compared() -> None:
    def found(reward: str) -> LoggedLists:
        lists, _, _ = World.make(0.4).log(0)
        return replace(lists, card=CARD._replace(reward=reward))

    assert gain(found("clicks"), found("clicks")) == (0.0, 0.0, 0.0)
    with pytest.raises(ConfigError, match="reward: 'clicks' and 'purchases'"):
        gain(found("clicks"), found("purchases"))
    with pytest.raises(ConfigError, match="their users differ"):
        gain(found("clicks"), replace(found("clicks"), user_ids_B=found("clicks").user_ids_B + 1))


@pytest.mark.parametrize("method", METHODS)
def test_a_gain_is_the_difference_of_the_estimates_and_its_interval_is_paired(method: str) -> None:
    world = World.make(0.4)
    truth = world.truth() - replace(world, target_I=world.logged_I).truth()
    holds, widths = 0, []
    for seed in range(60):
        lists, _, _ = world.log(seed, users=200)
        served = replace(lists, target_BK=lists.logged_BK)  # what it earns on average is known too
        a, b = (estimate(each, method, num_resamples=300).reward for each in (lists, served))
        more = gain(lists, served, method, num_resamples=300)
        assert more.mean == pytest.approx(a.mean - b.mean, abs=1e-12)
        holds += more.low <= truth <= more.high
        widths.append((more.high - more.low) / np.hypot(a.high - a.low, b.high - b.low))
    assert holds >= 51  # at 95 %, by chance once in a thousand
    assert np.mean(widths) < 0.9


def test_the_first_places_are_lists_of_their_own() -> None:
    lists, _, _ = World.make(0.4).log(0)
    cut = lists.first(1)
    assert cut.card.reward == f"{CARD.reward}, first 1"
    assert shown(cut).mean == pytest.approx(lists.rewards_BK[:, 0].mean())
    assert estimate(cut, "ips").reward.mean == pytest.approx(
        float((lists.target_BK / lists.logged_BK * lists.rewards_BK)[:, 0].mean())
    )


def test_more_lists_of_the_same_users_do_not_make_it_surer() -> None:
    lists, _, _ = World.make(0.4).log(0)
    twice = LoggedLists(
        **{
            name: np.concatenate([values, values])
            for name, values in vars(lists).items()
            if isinstance(values, np.ndarray)
        },
        card=CARD,
    )
    assert estimate(twice).reward == pytest.approx(estimate(lists).reward)
