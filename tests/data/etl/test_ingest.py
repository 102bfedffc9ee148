"""Ray Data as the executor of reads: the same batches, in order, a bounded way ahead, never starved."""

import time
from pathlib import Path

import pytest
import ray

from recray.data.batches.rows import StreamedRows
from recray.data.etl import ingest
from recray.data.etl.ingest import read_with_ray
from recray.data.row_block import RowBlock
from recray.data.rows.stream import EpochStream, GroupReader, Read, Steps
from recray.data.rows.table import RowTable
from recray.schema import DataError
from tests.data.made_rows import numbers, same_batch, table_of

pytestmark = pytest.mark.ray
SIZE = {"validation": 500, "test": 500}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, RowTable]:
    folder = tmp_path_factory.mktemp("rows")
    return {
        s: table_of(folder / f"made-{s}", sessions=s, sizes={"train": 30_000, **SIZE}) for s in (False, True)
    }


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("sessions", [False, True])
def test_batches_are_bit_equal_to_those_of_threads(
    tables: dict[bool, RowTable], monkeypatch: pytest.MonkeyPatch, sessions: bool
) -> None:
    monkeypatch.setattr(ingest, "GROUPS_PER_TASK", 3)
    size = 100 if sessions else 1500
    threads = StreamedRows(tables[sessions], "train", size, seed=2)
    by_ray = StreamedRows(tables[sessions], "train", size, seed=2, reader="ray")
    seen: list[int] = []
    for rank in (0, 1):
        for step in range(threads.num_steps()):
            batch = by_ray.batch(0, step, rank, 2)
            assert same_batch(batch, threads.batch(0, step, rank, 2))
            seen += numbers([batch])
    assert sorted(seen) == list(range(30_000))
    for epoch, step, rank in [(1, 3, 0), (1, 4, 0), (0, 0, 1)]:
        assert same_batch(by_ray.batch(epoch, step, rank, 2), threads.batch(epoch, step, rank, 2))
    by_ray.close()


@pytest.mark.usefixtures("ray_cluster")
def test_workers_that_hold_every_cpu_are_not_starved(tables: dict[bool, RowTable]) -> None:
    class Worker:
        def read(self, table: RowTable, rank: int) -> int:
            rows = StreamedRows(table, "train", 4096, reader="ray")
            return sum(rows.batch(0, step, rank, 2).size for step in range(rows.num_steps()))

    assert ray.cluster_resources()["CPU"] == 4
    workers = [ray.remote(num_cpus=2)(Worker).remote() for _ in range(2)]
    try:
        reading = [worker.read.remote(tables[False], rank) for rank, worker in enumerate(workers)]
        assert sum(ray.get(reading, timeout=120)) == 30_000
    finally:
        for worker in workers:
            ray.kill(worker)


@pytest.mark.usefixtures("ray_cluster")
def test_reading_stays_a_bounded_way_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Marking(GroupReader):
        def __call__(self, read: Read) -> RowBlock:
            (tmp_path / f"mark-{read.number}").touch()
            return GroupReader.__call__(self, read)

    monkeypatch.setattr(ingest, "GROUPS_PER_TASK", 2)
    monkeypatch.setattr(ingest, "AHEAD_BYTES", 1 << 20)
    table = table_of(tmp_path / "made", sizes={"train": 400_000, **SIZE})
    stream = EpochStream(table, "train", 0, 0, True)
    reads = list(stream.reads(Steps(400_000, 4096), 0, 0, 1))
    blocks = read_with_ray(Marking(table.folder, table.schema, 0, 0, True), reads)
    rows = len(next(blocks))
    marks, before = 0, -1
    while marks != before:  # until nothing more is read
        time.sleep(1.5)
        before, marks = marks, len(list(tmp_path.glob("mark-*")))
    assert 2 <= marks < len(reads) / 2
    assert rows + sum(map(len, blocks)) == 400_000
    assert len(list(tmp_path.glob("mark-*"))) == len(reads) == 98


@pytest.mark.usefixtures("ray_cluster")
def test_a_damaged_shard_says_so(tmp_path: Path) -> None:
    table = table_of(tmp_path / "made", sizes={"train": 5000, **SIZE})
    (table.folder / "train-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="prepare it again"):
        StreamedRows(table, "train", 512, reader="ray").batch(0, 0)
