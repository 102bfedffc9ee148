"""Rows to rank in shuffled batches, the same for any number of workers.

The global batch of a step is a contiguous slice of the epoch's stream of units (sessions, or rows),
whose order is a pure function of (seed, epoch); each rank takes a contiguous share of it.
"""

from collections import deque
from collections.abc import Generator, Iterator
from typing import Literal

import numpy as np

from recray.arrays import Int64s
from recray.batch import RankingBatch
from recray.config import ConfigError
from recray.data.parallel import in_parallel
from recray.data.row_block import RowBlock
from recray.data.rows.stream import EpochStream, Read, Steps
from recray.data.rows.table import RowTable
from recray.schema import RowSchema

_NOWHERE = (-1, 0, 0, 0)  # epoch, step, rank, number of workers
READ_THREADS, READ_AHEAD = 2, 6  # row groups that a worker reads at once, and that wait for it


class MemoryRows:
    """Rows in memory, such as ``table.read("train")``; every unit exactly once per epoch.

    Args:
        global_batch_size: units per step over all workers, at most.
        shuffle: a full permutation of the units by (seed, epoch); else the order of the source.
    """

    def __init__(
        self, rows: RowBlock, global_batch_size: int, seed: int = 0, *, shuffle: bool = True
    ) -> None:
        self.rows, self.seed, self.shuffle = rows, seed, shuffle
        self._steps = Steps(self.rows.num_units, global_batch_size)
        self._epoch, self._order = -1, np.arange(self.rows.num_units)

    def num_steps(self) -> int:
        """Global batches in an epoch."""
        return self._steps.count

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> RankingBatch:
        """This worker's share of a global batch; empty only where there are fewer units than workers."""
        share = self._steps.share(step, rank, world_size)
        return self.rows.select(self._order_of(epoch)[share.start : share.stop]).to_batch(share.total)

    def _order_of(self, epoch: int) -> Int64s:
        if self.shuffle and epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.rows.num_units)
            self._epoch = epoch
        return self._order


class StreamedRows:
    """A part read from disk as it is asked for, in constant memory; every unit exactly once per epoch.

    Steps in a row are read ahead; a jump to another step, rank or number of workers starts reading
    anew there and gives the same batch.

    Args:
        shuffle: row groups in an order by (seed, epoch) and the units of each likewise; else the
            order of the source.
        reader: who executes the reads: threads of this process, or tasks of Ray Data, which may run on
            other machines. The batches are the same.
    """

    def __init__(
        self,
        table: RowTable,
        part: str,
        global_batch_size: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        reader: Literal["threads", "ray"] = "threads",
    ) -> None:
        if reader not in ("threads", "ray"):
            raise ConfigError(f"reader must be 'threads' or 'ray', got {reader!r}")
        self.table, self.part, self.schema = table, part, table.schema
        self.seed, self.shuffle, self.reader = seed, shuffle, reader
        self._steps = Steps(table.num_units(part), global_batch_size)
        self._next = _NOWHERE
        self._cursor = _Cursor(iter(()), self.schema)

    def num_steps(self) -> int:
        """Global batches in an epoch."""
        return self._steps.count

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> RankingBatch:
        """This worker's share of a global batch; empty only where there are fewer units than workers."""
        share = self._steps.share(step, rank, world_size)
        if self._next != (epoch, step, rank, world_size):
            self.close()
            self._cursor = _Cursor(self._blocks(epoch, step, rank, world_size), self.schema)
        self._next = _NOWHERE  # until the rows are there: after an error reading starts anew
        rows = self._cursor.take(share.stop - share.start)
        self._next = (epoch, step + 1, rank, world_size)
        if step + 1 == self._steps.count:
            self.close()
        return rows.to_batch(share.total)

    def close(self) -> None:
        """Stops reading ahead; the next batch starts anew."""
        self._cursor.close()
        self._next = _NOWHERE

    def _blocks(self, epoch: int, step: int, rank: int, world_size: int) -> Iterator[RowBlock]:
        stream = EpochStream(self.table, self.part, self.seed, epoch, self.shuffle)
        reads: Iterator[Read] = stream.reads(self._steps, step, rank, world_size)
        if self.reader == "threads":
            return in_parallel(stream.reader, reads, threads=READ_THREADS, ahead=READ_AHEAD)
        from recray.data.etl.ingest import read_with_ray

        return read_with_ray(stream.reader, list(reads))


class _Cursor:
    """Takes so many units at a time from blocks of any size."""

    def __init__(self, blocks: Iterator[RowBlock], schema: RowSchema) -> None:
        self._blocks, self._empty = blocks, RowBlock.empty(schema)
        self._held: deque[RowBlock] = deque()

    def take(self, units: int) -> RowBlock:
        taken: list[RowBlock] = []
        while units:
            block = self._held.popleft() if self._held else next(self._blocks)
            if block.num_units > units:
                self._held.append(block.slice(units, block.num_units))
                block = block.slice(0, units)
            taken.append(block)
            units -= block.num_units
        return RowBlock.concat(taken) if taken else self._empty

    def close(self) -> None:
        if isinstance(self._blocks, Generator):
            self._blocks.close()
