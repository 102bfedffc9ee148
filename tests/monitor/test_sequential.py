"""E-processes: against slow loops written from the formulas and ville, and how often equal arms differ."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc, betaln

from recray.config import ConfigError
from recray.monitor.sequential import DISTANCES_G, Preference, RateRatio, SampleRatio

Outcome = tuple[float, bool, float]  # share, candidate, part
outcomes = st.lists(
    st.tuples(st.sampled_from([0.1, 0.5, 0.7]), st.booleans(), st.sampled_from([0.05, 0.4, 1.0])),
    min_size=1,
    max_size=60,
)


def told(stream: list[Outcome], concentration: float = 5.0) -> RateRatio:
    seen = RateRatio(concentration)
    for outcome in stream:
        seen.add(*outcome)
    return seen


def likelihood(candidate: bool, share: float, ratio: float) -> float:
    theta = share * ratio / (share * ratio + 1 - share)
    return theta if candidate else 1 - theta


def slow_e(stream: list[Outcome], concentration: float, null: float, above: bool) -> float:
    """The formula of the docstring, user by user."""
    weights, products = [], []
    for distance in DISTANCES_G.tolist():
        theta = math.exp(distance) / (1 + math.exp(distance))
        weights.append(theta**concentration * (1 - theta) ** concentration * distance)
        ratio = null * math.exp(distance if above else -distance)
        product = 1.0
        for share, candidate, part in stream:
            gain = likelihood(candidate, share, ratio) / likelihood(candidate, share, null)
            product *= 1 + part * (gain - 1)
        products.append(product)
    return float(sum(w * p for w, p in zip(weights, products, strict=True)) / sum(weights))


@given(outcomes, st.sampled_from([0.5, 0.9, 1.0, 3.0]), st.booleans())
@settings(deadline=None, max_examples=60)
def test_e_is_the_formula(stream: list[Outcome], null: float, above: bool) -> None:
    assert told(stream).log_e(null, above=above) == pytest.approx(
        math.log(slow_e(stream, 5.0, null, above)), abs=1e-7
    )


@pytest.mark.parametrize("concentration", [1.0, 10.0, 40.0])
@pytest.mark.parametrize(("n", "candidate"), [(10, 10), (100, 70), (1000, 560), (100_000, 50_900)])
def test_even_shares_are_the_beta_binomial_test(concentration: float, n: int, candidate: int) -> None:
    """Cut to one side, in closed form; what is left is the spacing of the nodes."""
    a, b = concentration + candidate, concentration + n - candidate
    log_two_sided = betaln(a, b) - betaln(concentration, concentration) + n * math.log(2)
    closed = log_two_sided + math.log(2 * betainc(b, a, 0.5))
    seen = RateRatio(concentration, {(0.5, 1.0): [n - candidate, candidate]})
    assert seen.log_e(above=True) == pytest.approx(closed, abs=0.02)


def test_both_sides_together_are_ville() -> None:
    ville = pytest.importorskip("ville")
    rng = np.random.default_rng(0)
    stream_N = (rng.random(400) < 0.42).astype(float)
    oracle_N = ville.BernoulliTest(0.5, prior=(10, 10)).fit(stream_N).log_e_values_
    for n in (10, 100, 400):
        hits = int(stream_N[:n].sum())
        seen = RateRatio(10.0, {(0.5, 1.0): [n - hits, hits]})
        both = np.logaddexp(seen.log_e(above=True), seen.log_e(above=False)) - math.log(2)
        assert both == pytest.approx(oracle_N[n - 1], abs=0.02)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
@pytest.mark.parametrize("null", [0.8, 1.0, 1.5])
@pytest.mark.parametrize("above", [True, False])
def test_expected_growth_is_one_at_the_null_and_less_beyond(share: float, null: float, above: bool) -> None:
    """One user with outcomes of any distribution: E is linear in the means, so two parts are enough."""

    def expected(ratio: float) -> float:
        mean, total = 0.3, 1.0
        for candidate in (True, False):
            chance = share if candidate else 1 - share
            # Part 0.4 with a chance that makes the mean right, else nothing.
            hit = mean * (ratio if candidate else 1.0) / 0.4
            e = math.exp(told([(share, candidate, 0.4)]).log_e(null, above=above))
            total += chance * hit * (e - 1)
        return total

    assert expected(null) == pytest.approx(1, abs=1e-12)
    assert expected(null * (0.8 if above else 1.1)) < 1 < expected(null * (1.1 if above else 0.8))


def test_equal_arms_are_told_apart_as_rarely_as_alpha_says() -> None:
    """Looked at after every success, shares that change, and parts that come with the users."""
    alpha, runs, alarms = 0.1, 300, 0
    rng = np.random.default_rng(1)
    for _ in range(runs):
        seen = RateRatio(5.0)
        for number in range(300):
            share = 0.1 if number < 100 else 0.5
            seen.add(share, bool(rng.random() < share), rng.choice([0.05, 0.3, 1.0]))
            if number % 5 == 0 and seen.log_e(above=True) >= math.log(1 / alpha):
                alarms += 1
                break
    assert alarms <= alpha * runs


@given(outcomes)
@settings(deadline=None, max_examples=40)
def test_bounds_are_where_e_reaches_the_level(stream: list[Outcome]) -> None:
    seen = told(stream)
    lower, upper = seen.bounds(0.2)
    assert lower < upper
    for bound, above in ((lower, True), (upper, False)):
        if 0 < bound < math.inf:
            assert seen.log_e(bound, above=above) == pytest.approx(math.log(10), abs=1e-3)
    ratios = [0.1, 0.5, 1.0, 2.0, 10.0]
    falling = [seen.log_e(ratio, above=True) for ratio in ratios]
    rising = [seen.log_e(ratio, above=False) for ratio in ratios]
    assert falling == sorted(falling, reverse=True)
    assert rising == sorted(rising)


def test_bounds_hold_the_truth_and_close_in_on_it() -> None:
    rng = np.random.default_rng(2)
    left = 0
    for _ in range(100):
        seen = RateRatio(5.0)
        for _ in range(10):
            hits = int(rng.binomial(100, 0.4))  # a ratio of 2 / 3 at even shares
            seen.counts[0.5, 1.0] = [
                old + new
                for old, new in zip(seen.counts.get((0.5, 1.0), [0, 0]), (100 - hits, hits), strict=True)
            ]
            lower, upper = seen.bounds(0.05)
            if not lower <= 2 / 3 <= upper:
                left += 1
                break
        else:
            assert upper - lower < 0.35
            assert seen.estimate() == pytest.approx(2 / 3, rel=0.3)
    assert left <= 5


def test_a_ratio_without_successes_says_nothing() -> None:
    seen = RateRatio()
    seen.add(0.5, True, 0.01)  # a part that is rounded to none
    assert (seen.successes, seen.estimate(), seen.log_e(above=True)) == (0, None, 0)
    assert seen.bounds(0.05) == (0, math.inf)


def test_evidence_comes_back_from_json() -> None:
    seen = told([(0.1, True, 0.35), (0.5, False, 1.0), (0.1, True, 0.35)])
    again = RateRatio.from_json(json.loads(json.dumps(seen.to_json())), 5.0)
    assert again == seen
    assert again.log_e(above=True) == seen.log_e(above=True)


@pytest.mark.parametrize(("share", "part"), [(0.0, 1.0), (1.0, 1.0), (0.5, 1.1), (math.nan, 1.0)])
def test_what_is_no_share_is_refused(share: float, part: float) -> None:
    with pytest.raises(ConfigError, match=r"must lie between 0 and 1"):
        RateRatio().add(share, True, part)


def test_sample_ratio_is_the_product_of_predictions() -> None:
    """Unit by unit: a Dirichlet's predictive probability over the share that was meant."""
    rng = np.random.default_rng(3)
    seen, log_e = SampleRatio(concentration=30.0), 0.0
    for shares in ((0.8, 0.1, 0.1), (0.4, 0.3, 0.3)):
        counts = [0, 0, 0]
        for arm in rng.choice(3, 50).tolist():
            log_e += math.log((30 * shares[arm] + counts[arm]) / (30 + sum(counts)) / shares[arm])
            counts[arm] += 1
            seen.add(shares, arm)
    assert seen.log_e() == pytest.approx(log_e)
    assert SampleRatio.from_json(json.loads(json.dumps(seen.to_json())), 30.0) == seen


@pytest.mark.parametrize(("share", "least", "most"), [(0.5, 0, 10), (0.55, 190, 200)])
def test_a_wrong_sample_ratio_is_seen(share: float, least: int, most: int) -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(200):
        seen = SampleRatio()
        for _ in range(50):
            for candidate, n in enumerate(np.bincount((rng.random(100) < share).astype(int), minlength=2)):
                for _ in range(n):
                    seen.add((0.5, 0.5), candidate)
            if seen.log_e() >= math.log(20):
                alarms += 1
                break
    assert least <= alarms <= most


def test_lists_without_a_winner_say_nothing() -> None:
    seen = Preference()
    for candidate, baseline in itertools.product(range(3), repeat=2):
        seen.add(candidate, baseline)
    assert seen.lists == 6
    assert seen.log_e(candidate=True) == pytest.approx(seen.log_e(candidate=False))
    for _ in range(40):
        seen.add(1, 0)
    assert seen.log_e(candidate=True) > math.log(20) > 0 > seen.log_e(candidate=False)
    lower, upper = seen.bounds(0.05)
    assert 0.5 < lower < 43 / 46 < upper <= 1
    again = Preference.from_json(json.loads(json.dumps(seen.to_json())))
    assert (again.lists, again.bounds(0.05)) == (seen.lists, seen.bounds(0.05))
