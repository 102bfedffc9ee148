"""What ``clean.tidy_up`` does, for rows that need not fit memory: by one process, or by many.

This process holds the ids of users and items, never the rows; a partition's are held by whoever works on it.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from recray.arrays import Int64s
from recray.data.events import partitions
from recray.data.events.clean import InteractionArrays, Rows, Tidy
from recray.data.source import Slice
from recray.schema import DataError

log = logging.getLogger(__name__)

ROWS = 2_000_000  # of a slice or partition: some 600 MB while it is worked on
T = TypeVar("T")
R = TypeVar("R")


class Spread(Protocol):
    """Has work done on each item, and gives what it returns in the order of the items."""

    def __call__(self, work: Callable[[T], R], items: Sequence[T], /) -> Iterable[R]: ...


def here(work: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
    """One after the other in this process; Polars keeps its cores busy."""
    return map(work, items)


class Read(NamedTuple):
    tidy: Tidy  # its events are mapped from files in ``scratch``
    ticks_per_s: int  # 0: there are no times, rows are numbered
    notes: tuple[str, ...]


class _Steps:
    """Steps over all partitions, with their progress; what a step has read is removed once it is done."""

    def __init__(self, scratch: Path, spread: Spread) -> None:
        self.scratch, self._spread = scratch, spread

    def each(self, what: str, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        for done, result in enumerate(self._spread(work, items), start=1):
            log.info("%s: %d of %d", what, done, len(items))
            yield result

    def remove(self, folder: str) -> None:
        shutil.rmtree(self.scratch / folder, ignore_errors=True)


def tidy_in_partitions(
    slices: Sequence[Slice], minimum: int, scratch: Path, spread: Spread = here, *, num_partitions: int
) -> Read:
    """``tidy_up`` of the rows of all slices.

    Args:
        minimum: the k of the k-core, 0 for none.
        scratch: an empty folder that all who work can reach.
        num_partitions: as many as one's rows fit the memory of a worker.

    Raises:
        DataError: a value is wrong, or no interaction is left.
    """
    steps = _Steps(scratch, spread)
    deal = partial(partitions.deal_by_user, folder=scratch / "by_user", num_partitions=num_partitions)
    dealt = list(steps.each("rows dealt by user", deal, list(enumerate(slices))))
    alike = _alike(dealt)
    ticks = {number: each.ticks_per_s for number, each in enumerate(dealt)}
    places = [path for n in range(num_partitions) if (path := scratch / "by_user" / f"{n}").is_dir()]
    keep = partial(partitions.keep_once, ticks_per_s=ticks, alike=alike, folder=scratch / "once")
    once = list(steps.each("copies left out", keep, places))
    steps.remove("by_user")
    files = [scratch / "once" / f"{path.name}.arrow" for path in places]
    if minimum > 1:
        files = _cored(steps, files, minimum)
    found = list(steps.each("ids", partitions.contents, files))
    ids = _numbered(steps, files, found)
    sampled = np.sort(np.concatenate([each.ticks for each in found]))
    names = sorted({name for each in dealt for name in each.event_types})
    events = _ordered(steps, files, sampled, names, alike.ticks_per_s or 1)
    kept, read = len(events.user_ids_N), sum(each.rows for each in dealt)
    exact = sum(copies for copies, _ in once)
    rows = Rows(
        read=read,
        exact_duplicates=exact,
        repeated_pairs=sum(repeated for _, repeated in once) - exact,
        dropped_by_k_core=read - exact - kept,
        out_of_order=_out_of_order(dealt, alike),
    )
    notes = tuple(dict.fromkeys(note for each in dealt for note in each.notes))
    return Read(Tidy(events, rows, *ids, tuple(names)), alike.ticks_per_s, notes)


def _alike(dealt: Sequence[partitions.Dealt]) -> partitions.Alike:
    """Text where any ids are; times at the finest resolution of any."""
    text = frozenset[partitions.Role]().union(*(found.text for found in dealt))
    return partitions.Alike(text, max(found.ticks_per_s for found in dealt))


def _out_of_order(dealt: Sequence[partitions.Dealt], alike: partitions.Alike) -> int:
    count, before = 0, None
    for found in dealt:
        count += found.out_of_order
        if found.ends:
            share = alike.ticks_per_s // found.ticks_per_s if found.ticks_per_s else 1
            first, last = (tick * share for tick in found.ends)
            count += before is not None and first < before
            before = last
    return count


def _cored(steps: _Steps, files: Sequence[Path], minimum: int) -> list[Path]:
    """The k-core, a round at a time: a user's events lie together, an item's are added up here."""
    number, left = 0, [*files]
    while True:
        counts = pl.concat(steps.each("items counted", partitions.count_items, left))
        rare = counts.group_by("item").sum().filter(pl.col("len") < minimum).select("item")
        if number and not len(rare):
            return left
        folder = f"core-{number}"
        partitions.write(rare, steps.scratch / folder / partitions.RARE)
        drop = partial(partitions.drop_rare, folder=steps.scratch / folder, minimum=minimum)
        rows = list(steps.each(f"k-core, round {number + 1}", drop, left))
        steps.remove(f"core-{number - 1}" if number else "once")
        left = [steps.scratch / folder / path.name for path, count in zip(left, rows, strict=True) if count]
        if not left:
            raise DataError(
                f"no interaction is left: not every user and item can have k_core={minimum}; take less"
            )
        number += 1


def _numbered(
    steps: _Steps, files: Sequence[Path], found: Sequence[partitions.Contents]
) -> tuple[pl.Series, pl.Series]:
    """Writes the numbers of all ids, users by partition; returns the raw ids in their order."""
    by_partition = [pl.DataFrame({"raw": each.users}).with_columns(of=n) for n, each in enumerate(found)]
    users = pl.concat(by_partition).sort("raw").with_row_index("id")
    for (n,), of_partition in users.partition_by("of", include_key=False, as_dict=True).items():
        partitions.write(of_partition, steps.scratch / "users" / files[int(n)].name)
    items = pl.DataFrame({"raw": pl.concat([each.items for each in found]).unique().sort()})
    items = items.with_row_index("id")
    partitions.write(items, steps.scratch / "items.arrow")
    return _raw_ids(users["raw"]), _raw_ids(items["raw"])


def _raw_ids(ids: pl.Series) -> pl.Series:
    return ids.cast(pl.String).alias("raw_id")


def _ordered(
    steps: _Steps, files: Sequence[Path], sampled: Int64s, types: Sequence[str], ticks_per_s: int
) -> InteractionArrays:
    """All events in order of time, as columns that are mapped from files.

    Args:
        sampled: of the times of all, in order.
    """
    edges = np.unique(sampled[np.arange(1, len(files)) * len(sampled) // len(files)]).tolist()
    deal = partial(
        partitions.deal_by_time,
        users=steps.scratch / "users",
        items=steps.scratch / "items.arrow",
        edges=edges,
        folder=steps.scratch / "by_time",
    )
    rows = Counter[int]()
    for dealt in steps.each("rows dealt by time", deal, list(enumerate(files))):
        rows.update(dealt)
    for folder in {path.parent.name for path in files}:
        steps.remove(folder)
    stretches = [steps.scratch / "by_time" / f"{place}" for place in sorted(rows)]
    order = partial(
        partitions.put_in_order, ticks_per_s=ticks_per_s, types=types, folder=steps.scratch / "ordered"
    )
    list(steps.each("put in order", order, stretches))
    steps.remove("by_time")
    return _mapped([steps.scratch / "ordered" / f"{path.name}.arrow" for path in stretches], steps.scratch)


def _mapped(ordered: Sequence[Path], scratch: Path) -> InteractionArrays:
    """Each column of all files as one, appended file by file."""
    names = list(pl.read_ipc_schema(ordered[0]))
    types: dict[str, npt.DTypeLike] = {}
    for path in ordered:
        for column in pl.read_ipc(path):
            values = column.to_numpy()
            types[column.name] = values.dtype
            with (scratch / f"{column.name}.bin").open("ab") as file:
                file.write(values.data)
    columns = {name: np.memmap(scratch / f"{name}.bin", types[name], "r") for name in names}
    return InteractionArrays(
        columns["user_id"],
        columns["item_id"],
        columns["rating"],
        columns["timestamp"],
        columns.get("event_type"),
        columns.get("part"),
    )
