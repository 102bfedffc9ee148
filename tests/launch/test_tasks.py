"""The same work for many things: an error of one ends no other; and a job's own work, done by a task."""

import functools
import os
import signal

import pytest

from recray.config import ConfigError
from recray.launch.tasks import DiedError, in_one_task, run_each
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


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def halved_with_a_secret(number: int) -> tuple[float, str]:
    return halved(2, number), os.environ["PLANTED_TOKEN"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_jobs_own_work_brings_its_result_its_error_or_the_death_of_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLANTED_TOKEN", "known-to-the-driver")
    done = in_one_task(functools.partial(halved_with_a_secret, 4), LaunchConfig(), "a job")
    assert done == (2.0, "known-to-the-driver")
    with pytest.raises(ConfigError, match="^-1 is negative$"):
        in_one_task(functools.partial(halved, 2, -1), LaunchConfig(), "a job")
    with pytest.raises(DiedError, match="a job: the process that did it died"):
        in_one_task(killed, LaunchConfig(), "a job")
