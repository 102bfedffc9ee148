"""The same work for many things, each in a process of its own: on Ray, or one after the other here."""

import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from recray.train.context import LaunchConfig

T = TypeVar("T")
R = TypeVar("R")
Came: TypeAlias = Iterator[tuple[T, R | Exception]]


def run_each(work: Callable[[T], R], things: Sequence[T], launch: LaunchConfig) -> Came[T, R]:
    """What came of each, as it comes; an error ends nothing else.

    Each has a process that did nothing before, so that its peak of memory is its own.
    """
    return _on_ray(work, things, launch) if launch.where == "ray" else _here(work, things)


def _here(work: Callable[[T], R], things: Sequence[T]) -> Came[T, R]:
    spawned = multiprocessing.get_context("spawn")
    for thing in things:
        with concurrent.futures.ProcessPoolExecutor(1, spawned) as pool:
            try:
                yield thing, pool.submit(work, thing).result()
            except Exception as error:  # of whatever kind, a killed process too: the others come next
                yield thing, error


def _on_ray(work: Callable[[T], R], things: Sequence[T], launch: LaunchConfig) -> Came[T, R]:
    import ray  # takes a second, and work that is done here does without

    from recray.launch.cluster import join, options
    from recray.launch.preflight import require_ready

    join()
    require_ready(dataclasses.replace(launch, workers=1, min_workers=0))

    def one(thing: T) -> R:  # Ray takes functions alone
        return work(thing)

    remote: Any = ray.remote(**options(launch), max_calls=1)(one)
    waiting = {remote.remote(thing): thing for thing in things}
    while waiting:
        [done], _ = ray.wait(list(waiting), num_returns=1)
        thing = waiting.pop(done)
        try:
            yield thing, ray.get(done)
        except ray.exceptions.RayTaskError as error:
            yield thing, error.cause if isinstance(error.cause, Exception) else error
        except ray.exceptions.RayError as error:
            yield thing, error
