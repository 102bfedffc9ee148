"""The same work for many things: an error of one ends no other."""

import functools

import pytest

from recray.config import ConfigError
from recray.launch.tasks import run_each
from recray.train.context import LaunchConfig


def halved(by: int, number: int) -> float:
    if number < 0:
        raise ConfigError(f"{number} is negative")
    return number / by


@pytest.mark.parametrize(
    "where", [pytest.param("local", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.ray)]
)
def test_each_has_its_result(where: str, request: pytest.FixtureRequest) -> None:
    if where == "ray":
        request.getfixturevalue("ray_cluster")
    came = dict(run_each(functools.partial(halved, 2), [1, -1, 4], LaunchConfig(where=where)))  # type: ignore[arg-type]
    assert (came[1], came[4]) == (0.5, 2.0)
    assert isinstance(came[-1], ConfigError)
    assert str(came[-1]) == "-1 is negative"
