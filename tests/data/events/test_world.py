"""What people do with lists, against what is expected of them in closed form."""

from dataclasses import replace

import numpy as np
import pytest

from recray.arrays import Int64s
from recray.config import ConfigError
from recray.data.sources.synthetic.truth import SyntheticConfig
from recray.data.sources.synthetic.world import World, WorldConfig

SMALL = WorldConfig(truth=SyntheticConfig(num_users=60, num_items=50, events_per_user=10, days=30))
NO_MEMORY = replace(SMALL, fatigue=0.0)


def lists(rng: np.random.Generator, size: int, k: int = 8) -> Int64s:
    return np.argsort(rng.random((size, SMALL.truth.num_items)), axis=1)[:, :k]


def test_clicks_come_as_often_as_is_expected_of_each_place() -> None:
    world, rng = World(NO_MEMORY), np.random.default_rng(0)
    users_V = np.tile(np.arange(60), 2_000)
    one_K = lists(rng, 1)
    found = world.react(0, users_V, np.repeat(one_K, len(users_V), axis=0))
    expected = world.expected_clicks(0, np.arange(60), np.repeat(one_K, 60, axis=0)).mean()
    clicks_V = found.clicked_VK.sum(axis=1)
    assert abs(clicks_V.mean() - expected) < 4 * clicks_V.std() / np.sqrt(len(clicks_V))
    attracts_UK = world.attraction(0, np.arange(60))[:, one_K[0]].astype(np.float64)
    looked_U, config = np.ones(60), NO_MEMORY
    for k in range(8):  # the recursion of the paper, place by place
        rate = found.clicked_VK[:, k].mean()
        assert abs(rate - (looked_U * attracts_UK[:, k]).mean()) < 4 * np.sqrt(rate / len(users_V))
        looked_U = looked_U * config.goes_on * (1 - config.enough * attracts_UK[:, k])
    assert abs(found.bought_VK.sum() / found.clicked_VK.sum() - config.buys) < 0.01
    assert not (found.bought_VK & ~found.clicked_VK).any()


def test_equal_worlds_are_equal_bit_for_bit_and_days_are_not() -> None:
    one, other = World(SMALL), World(SMALL)
    for day in range(3):
        visits = one.visits(day)
        assert all(np.array_equal(a, b) for a, b in zip(visits, other.visits(day), strict=True))
        assert (np.diff(visits.times_V) >= 0).all()
        assert one.begin(day) <= visits.times_V[0] <= visits.times_V[-1] < one.begin(day + 1)
        shown_VK = lists(np.random.default_rng(day), len(visits.users_V))
        first, second = (world.react(day, visits.users_V, shown_VK) for world in (one, other))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.array_equal(one.in_vain_UI, other.in_vain_UI)
    assert not np.array_equal(one.visits(0).users_V, one.visits(1).users_V)


def test_no_list_is_expected_to_be_clicked_more_than_the_best() -> None:
    world, rng = World(SMALL), np.random.default_rng(0)
    users_V = np.arange(60)
    best_VK = world.best_lists(5, users_V, 8)
    most_V = world.expected_clicks(5, users_V, best_VK)
    for _ in range(50):
        swapped_VK = best_VK.copy()
        a, b = rng.choice(8, 2, replace=False)
        swapped_VK[:, [a, b]] = swapped_VK[:, [b, a]]
        assert (world.expected_clicks(5, users_V, swapped_VK) <= most_V + 1e-6).all()
        assert (world.expected_clicks(5, users_V, lists(rng, 60)) <= most_V + 1e-6).all()


def test_what_is_shown_in_vain_attracts_less_until_it_is_clicked() -> None:
    world = World(replace(SMALL, goes_on=1.0, enough=0.0))
    users_V, shown_VK = np.arange(60), np.tile(np.arange(8), (60, 1))
    before_VK = world.attraction(0, users_V)[:, :8]
    found = world.react(0, users_V, shown_VK)
    after_VK = world.attraction(0, users_V)[:, :8]
    assert found.clicked_VK.any()
    assert (after_VK[found.clicked_VK] == before_VK[found.clicked_VK]).all()
    assert (after_VK[~found.clicked_VK] < before_VK[~found.clicked_VK]).all()
    others = world.attraction(0, users_V)[:, 8:]
    assert (others == World(SMALL).attraction(0, users_V)[:, 8:]).all()


def test_genres_trend_from_day_to_day() -> None:
    world, users_V = World(SMALL), np.arange(60)
    first = world.attraction(0, users_V)
    apart = [np.abs(world.attraction(day, users_V) - first).mean() for day in (1, 10, 100)]
    assert 0 < apart[0] < apart[1] < apart[2]
    still = World(replace(SMALL, trend=0.0))
    assert np.array_equal(still.attraction(0, users_V), still.attraction(100, users_V))


def test_people_come_as_often_as_they_should() -> None:
    world = World(SMALL)
    counts = [len(world.visits(day).users_V) for day in range(300)]
    assert abs(np.mean(counts) - 30) < 2


@pytest.mark.parametrize("wrong", [{"goes_on": 1.5}, {"visits_a_day": 0.0}, {"fatigue": -1.0}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        replace(SMALL, **wrong)  # type: ignore[arg-type]
