"""Ray Data as the executor of reads: the only home of ``ray.data``.

A worker asks for the row groups of its batches, in order; tasks of Ray Data read and shuffle them,
here or on other machines, a few blocks ahead of the worker, who takes them from the object store.
"""

import functools
import logging
from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from recray.data.row_block import RowBlock
from recray.data.rows.stream import GroupReader, Read

GROUPS_PER_TASK = 16  # 65,536 rows: some ten megabytes of Criteo's, so a task's start does not count
TASKS_AT_ONCE = 2  # per worker
AHEAD_BYTES = 64 << 20  # of the object store, per worker: blocks that wait for it


class RowGroups(Datasource):  # type: ignore[misc]
    """The reads of one worker from one step to the end of an epoch."""

    def __init__(self, reader: GroupReader, reads: Sequence[Read]) -> None:
        super().__init__()
        self._reader = reader
        self._tasks = [reads[n : n + GROUPS_PER_TASK] for n in range(0, len(reads), GROUPS_PER_TASK)]

    @property
    def num_tasks(self) -> int:
        return len(self._tasks)

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        return [
            ReadTask(
                functools.partial(_read, self._reader, reads),
                BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None),
            )
            for reads in self._tasks
        ]


def read_with_ray(reader: GroupReader, reads: Sequence[Read]) -> Iterator[RowBlock]:
    """The rows of the reads, in their order.

    Tasks ask for no CPU, since Ray Train's workers may hold all of them and would then wait forever
    for data; how many run at once is bounded instead.
    """
    if not reads:
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # else a plan and a summary for every epoch
    source = RowGroups(reader, reads)
    rows = ray.data.read_datasource(
        source,
        num_cpus=0,
        concurrency=min(TASKS_AT_ONCE, source.num_tasks),
        override_num_blocks=source.num_tasks,
    )
    options = rows.context.execution_options
    options.preserve_order = True
    options.resource_limits = options.resource_limits.copy(object_store_memory=AHEAD_BYTES)
    rows.context.enable_progress_bars = False
    for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        yield RowBlock.from_table(reader.schema, table)


def _read(reader: GroupReader, reads: Sequence[Read]) -> Iterator[pa.Table]:
    for read in reads:
        yield reader(read).to_table(first_session=read.position)
