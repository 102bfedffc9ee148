"""Ray Data as the executor of ``data.events.partitioned``: each step's partitions, wherever there is room."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import ray.data

from recray.schema import DataError

T = TypeVar("T")
R = TypeVar("R")


def with_ray(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """What the work returns, in the order of the items. Done again where a machine is lost.

    Raises:
        DataError: as the work does.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = ray.data.from_items([{"number": n} for n in range(len(items))], override_num_blocks=len(items))
    done = rows.map(partial(_done, work, items))
    done.context.execution_options.preserve_order = True
    done.context.enable_progress_bars = False
    for row in done.iter_rows():
        if row["done"].error:
            raise row["done"].error
        yield row["done"].result


@dataclass(frozen=True)
class _Done:
    """Of a class of its own, so that Ray Data leaves it as it is."""

    result: Any = None
    error: DataError | None = None


def _done(work: Callable[[T], R], items: Sequence[T], row: dict[str, int]) -> dict[str, _Done]:
    """A value that is wrong is wrong everywhere: it is told, not tried again."""
    try:
        return {"done": _Done(result=work(items[row["number"]]))}
    except DataError as error:
        return {"done": _Done(error=error)}
