"""Which row groups a worker reads for its batches, in which order, and one group read.

The stream of an epoch is the row groups in an order drawn from (seed, epoch), and the units of each in
an order drawn from (seed, epoch, group). All of it is a pure function, so whoever executes the reads
(threads here, Ray Data in ``ingest.py``) the batches are the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recray.arrays import Int64s
from recray.config import ConfigError
from recray.data.row_block import RowBlock
from recray.data.rows.table import RowGroup, RowTable, open_shard
from recray.schema import RowSchema


class Share(NamedTuple):
    """Units ``start`` to ``stop`` of an epoch's stream, of a global batch of ``total``."""

    start: int
    stop: int
    total: int


class Steps:
    """An epoch of ``units`` cut into equally long steps (to within one unit), and those into shares."""

    def __init__(self, units: int, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"global_batch_size must be at least 1, got {batch_size}")
        self.units, self.count = units, -(-units // batch_size)

    def share(self, step: int, rank: int, world_size: int) -> Share:
        """
        Raises:
            ConfigError: there is no such step or rank.
        """
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must be in 0..{world_size - 1}, got {rank}")
        if not 0 <= step < self.count:
            raise ConfigError(f"step must be in 0..{self.count - 1}, got {step}")
        start, stop = (self.units * s // self.count for s in (step, step + 1))
        total = stop - start
        return Share(start + total * rank // world_size, start + total * (rank + 1) // world_size, total)


class Read(NamedTuple):
    """Some units of one row group, in the order in which the group is streamed."""

    group: RowGroup
    number: int  # of the group within its part
    ranges: tuple[tuple[int, int], ...]
    position: int  # of the first unit in the epoch's stream


@dataclass(frozen=True)
class GroupReader:
    """Executes reads; small, so that it travels to other processes."""

    folder: Path
    schema: RowSchema
    seed: int
    epoch: int
    shuffle: bool

    def __call__(self, read: Read) -> RowBlock:
        with open_shard(self.folder / read.group.file) as file:
            # Groups are small and read side by side: threads within one would only get in the way.
            table = file.read_row_group(read.group.place, use_threads=False)
        block = RowBlock.from_table(self.schema, table)
        if self.shuffle:
            rng = np.random.default_rng([self.seed, self.epoch, read.number + 1])
            order = rng.permutation(block.num_units)
            return block.select(np.concatenate([order[start:stop] for start, stop in read.ranges]))
        return RowBlock.concat([block.slice(start, stop) for start, stop in read.ranges])


class EpochStream:
    """One epoch of a part as groups laid end to end."""

    def __init__(self, table: RowTable, part: str, seed: int, epoch: int, shuffle: bool) -> None:
        self._groups = table.groups(part)
        self._order = np.arange(len(self._groups))
        if shuffle:
            self._order = np.random.default_rng([seed, epoch]).permutation(len(self._groups))
        units = np.array([group.units for group in self._groups], dtype=np.int64)[self._order]
        self._starts: Int64s = np.concatenate([[0], np.cumsum(units)])
        self.reader = GroupReader(table.folder, table.schema, seed, epoch, shuffle)

    def reads(self, steps: Steps, first: int, rank: int, world_size: int) -> Iterator[Read]:
        """What this rank reads from step ``first`` to the end; a group once where it serves several steps."""
        held: Read | None = None
        for step in range(first, steps.count):
            share = steps.share(step, rank, world_size)
            start = share.start
            while start < share.stop:
                place = int(np.searchsorted(self._starts, start, side="right")) - 1
                stop = min(share.stop, int(self._starts[place + 1]))
                number = int(self._order[place])
                piece = (start - int(self._starts[place]), stop - int(self._starts[place]))
                if held is not None and held.number == number:
                    held = held._replace(ranges=(*held.ranges, piece))
                else:
                    if held is not None:
                        yield held
                    held = Read(self._groups[number], number, (piece,), start)
                start = stop
        if held is not None:
            yield held
