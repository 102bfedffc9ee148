"""Work that is no training by several workers, as Ray tasks with stated resources: of many things each in a
process of its own, or what a job does beside its training; without a cluster it is done here.
"""

import concurrent.futures
import dataclasses
import functools
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from recray.config import ConfigError, UnavailableError
from recray.redaction import is_secret_name
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
Came: TypeAlias = Iterator[tuple[T, R | Exception]]
CANCEL_S = 20.0  # in which work that is stopped notes so
GOES_ALONG = ("RECRAY_", "RAY_TRAIN_", "RAY_ADDRESS", "AWS_", "WANDB_", "MLFLOW_")
"""How variables begin that hold for a job's own work wherever it is done, beside its secrets."""


class DiedError(UnavailableError):
    """The process that did a job's own work is gone."""


def run_there(work: Callable[[], R], launch: LaunchConfig, what: str) -> R:
    """What ``work`` returns, done once by a process that Ray gives what one worker takes, where there is a
    cluster of several nodes to choose from; else by this process, as a new one costs seconds.

    Work whose process or node dies is begun again, ``launch.max_failures`` times at most: it has to go on
    from what it kept.

    Args:
        what: it is, for a person.

    Raises:
        ConfigError, DataError, OSError: as ``work`` does; or no node has what a worker takes.
        UnavailableError: the room does not come in time, or the process died too often.
    """
    if launch.where == "local" or not os.environ.get("RAY_ADDRESS"):
        return work()
    import ray  # takes a second, and work that is done here does without

    from recray.launch import cluster

    cluster.join()
    if ray.get_runtime_context().worker.mode == ray.WORKER_MODE or len(cluster.nodes()) == 1:
        return work()
    alone = dataclasses.replace(launch, workers=1, min_workers=0)
    for failures in range(launch.max_failures + 1):
        cluster.require_room(alone, launch.wait_s if failures else None)
        try:
            return in_one_task(work, alone, what)
        except DiedError as error:
            if failures == launch.max_failures:
                raise
            log.warning("%s; once more, %d of %d", error, failures + 1, launch.max_failures)
    raise AssertionError


def in_one_task(work: Callable[[], R], launch: LaunchConfig, what: str) -> R:
    """What ``work`` returns, done once by a process that Ray gives what one worker takes; Ctrl-C stops it.

    Raises:
        DiedError: its process or its node is gone.
    """
    import ray

    from recray.launch.cluster import options

    def there(variables: Mapping[str, str]) -> R:  # Ray takes functions alone
        setup_logging()
        for name, value in variables.items():
            os.environ.setdefault(name, value)
        log.info("%s: its own work is done on node %s", what, ray.util.get_node_ip_address())
        return work()

    # As an argument, since what is in a runtime environment stands on Ray's dashboard.
    along = {k: v for k, v in os.environ.items() if k.startswith(GOES_ALONG) or is_secret_name(k)}
    remote: Any = ray.remote(**options(launch), max_calls=1, max_retries=0)(there)
    asked = remote.options(name=what).remote(along)
    try:
        ray.wait([asked])
    except (KeyboardInterrupt, SystemExit):
        ray.cancel(asked)
        ray.wait([asked], timeout=CANCEL_S)
        raise
    came: R | Exception = _came(functools.partial(ray.get, asked), what)
    if isinstance(came, Exception):
        raise came
    return came


def run_each(
    work: Callable[[T], R], things: Sequence[T], launch: LaunchConfig, level: int = logging.INFO
) -> Came[T, R]:
    """What came of each, as it comes; an error ends nothing else.

    Each has a process that did nothing before, so that its peak of memory is its own.

    Args:
        level: of what processes on Ray tell the driver's log.
    """
    return _on_ray(work, things, launch, level) if launch.where == "ray" else _here(work, things)


def _here(work: Callable[[T], R], things: Sequence[T]) -> Came[T, R]:
    spawned = multiprocessing.get_context("spawn")
    for thing in things:
        with concurrent.futures.ProcessPoolExecutor(1, spawned) as pool:
            try:
                yield thing, pool.submit(work, thing).result()
            except Exception as error:  # of whatever kind, a killed process too: the others come next
                yield thing, error


def _on_ray(work: Callable[[T], R], things: Sequence[T], launch: LaunchConfig, level: int) -> Came[T, R]:
    import ray

    from recray.launch.cluster import LOOK_S, join, options, require_room, watched
    from recray.launch.preflight import require_ready

    join()
    alone = dataclasses.replace(launch, workers=1, min_workers=0)
    require_ready(alone)

    def one(thing: T) -> R:  # Ray takes functions alone
        setup_logging(level)
        return work(thing)

    # Ray itself begins what died with its process or node again.
    remote: Any = ray.remote(**options(launch), max_calls=1, max_retries=launch.max_failures)(one)
    with watched():
        waiting = {remote.remote(thing): thing for thing in things}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=LOOK_S)
            if not done:  # what waits for a node that is gone waits no longer than it may
                require_room(alone, launch.wait_s)
            for each in done:
                yield waiting.pop(each), _came(functools.partial(ray.get, each), "a task")


def _came(fetch: Callable[[], R], what: str) -> R | Exception:
    """A task's result or its error."""
    import ray

    try:
        return fetch()
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except ray.exceptions.OutOfMemoryError:
        return ConfigError(f"{what}: memory ran out where it was done: ask for launch.memory_gib")
    except ray.exceptions.RayError as error:
        died = f"{what}: the process that did it died ({str(error).strip().splitlines()[0]})"
        return DiedError(f"{died}; the same command goes on")
